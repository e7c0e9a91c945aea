"""RMPE's own training: PGPG boxes, heat-map targets, samples, and the pose networks trained on them."""
