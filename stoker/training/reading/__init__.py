"""Shards on this machine: a verified cache that reads ahead."""
