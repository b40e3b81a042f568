"""How videos show that they were cut off."""
