"""Measures of texts and their language."""
