"""Batches made ahead of the training loop, and how fast they come."""
