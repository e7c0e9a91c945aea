"""The classes and functions that a written-out model.py may need. Those it uses are copied into it as they stand here.

So each is complete with what it calls in this folder, and knows nothing of the rest of the package; the files import
nothing but torch and one another, and no name occurs twice.
"""
