"""Commands that decide which samples a corpus holds, or ask which it does."""
