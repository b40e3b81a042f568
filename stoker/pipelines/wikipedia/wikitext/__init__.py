"""Conversion of wikitext to plain text."""
