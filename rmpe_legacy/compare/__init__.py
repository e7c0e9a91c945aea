"""Proof that two networks are the same: both are run and compared, or hashed by content."""
