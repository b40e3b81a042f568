"""A source, a step and a rule for Stoker, found through the entry points in pyproject.toml."""
