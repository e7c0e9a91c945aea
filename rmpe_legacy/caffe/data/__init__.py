"""Pictures, databases and labels on their way into a network.

Below the layers: nothing here knows a LayerSpec or a Net. Errors are sentences that name the file; the layer that
reads it puts its own name before them.
"""
