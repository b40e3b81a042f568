"""Whether a stream feeds a network: what networks consume, and how long a device waits for data."""
