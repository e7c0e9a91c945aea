"""Reading and transforming images, databases and labels for networks.

Independent of layers: nothing here uses a LayerSpec or a Net. Errors name the file; the layer that reads it adds its
own name.
"""
