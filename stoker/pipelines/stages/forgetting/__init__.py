"""Forgetting: what the owner of a corpus takes out of it, and keeps out."""
