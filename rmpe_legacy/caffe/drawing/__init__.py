"""Drawings of networks: ``draw_network`` writes an SVG, PNG, HTML or DOT file of a prototxt's layers."""

from .draw import SUFFIXES, draw_network

__all__ = ["SUFFIXES", "draw_network"]
