"""Mergeable statistics of a corpus' columns."""
