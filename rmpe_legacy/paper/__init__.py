"""The paper's tables: the published numbers, and the programs that measure them."""
