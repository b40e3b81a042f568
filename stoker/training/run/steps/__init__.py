"""What a run does again and again: a step, an evaluation, a checkpoint."""
