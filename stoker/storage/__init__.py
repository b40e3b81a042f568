"""Storage: bytes, samples, shards, manifests, stores. Knows nobody above it."""
