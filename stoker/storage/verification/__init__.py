"""Verification of a version: all objects are read again and compared with the manifest."""
