"""Versions of a corpus: manifests, keys, leases, and objects that no version needs."""
