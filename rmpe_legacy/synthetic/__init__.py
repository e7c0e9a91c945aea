"""Synthetic images of people whose joints are known exactly."""
