"""Decoding as little of a video as its wanted frames need."""
