"""One training run: options, model interface, loop, checkpoints, metrics."""
