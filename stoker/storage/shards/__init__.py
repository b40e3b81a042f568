"""Samples, the tars that hold them, their indexes and records."""
