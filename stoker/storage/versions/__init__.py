"""Manifests, the layout of a corpus, and what no version needs."""
