"""`stoker study`."""
