"""What runs leave in a store beside weights: descriptions of checkpoints, and evaluations. Imports no torch."""
