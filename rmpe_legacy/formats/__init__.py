"""File formats for networks and weights: one module per format, and a registry of what each can do."""
