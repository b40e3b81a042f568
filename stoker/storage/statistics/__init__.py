"""Mergeable statistics of a corpus's columns."""
