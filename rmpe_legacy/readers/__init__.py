"""Readers of untrusted files: sizes are checked before memory is taken, and nothing in a file is executed."""
