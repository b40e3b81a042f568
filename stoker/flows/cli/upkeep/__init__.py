"""Commands that take something out of a corpus."""
