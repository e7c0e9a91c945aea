"""Networks and weights in files: each format with what recognises, reads, writes and runs it."""
