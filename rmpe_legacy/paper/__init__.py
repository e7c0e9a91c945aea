"""The paper's tables: its numbers, and the programs that measure them again."""
