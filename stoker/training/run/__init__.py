"""A training run: options, loop, checkpoints, metrics."""
