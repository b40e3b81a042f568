"""Ingest, curate, pack, publish: the stages from partitions to a version."""
