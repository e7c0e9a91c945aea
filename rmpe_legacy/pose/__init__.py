"""RMPE's steps from an image to poses, one module each. Import each from its own module: nms needs no torch."""
