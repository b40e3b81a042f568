"""Commands that decide which samples a corpus holds."""
