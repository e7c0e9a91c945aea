"""RMPE's steps from a picture to poses, one a file. Import what you need from its own module: nms needs no torch."""
