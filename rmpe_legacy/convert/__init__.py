"""Networks and weights in other formats."""
