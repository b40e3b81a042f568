"""A version read again: every checksum and count compared."""
