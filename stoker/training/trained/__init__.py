"""What to do with a trained model: evaluate it on a split, ask it about files, hand it on."""
