"""Lookups of a version: which records and indexes may have a candidate, by its key, URL or checksum."""
