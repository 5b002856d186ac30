"""The programs that run in the peers' own environments: the sleeping model, written as each peer's documentation has it."""
