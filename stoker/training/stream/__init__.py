"""A version as a stream of batches in a stated order."""
