"""Elders, the samples that the parent version holds: what they are, and where newcomers lie beside them."""
