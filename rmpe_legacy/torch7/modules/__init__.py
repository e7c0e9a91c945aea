"""Torch7's modules rebuilt as torch modules."""
