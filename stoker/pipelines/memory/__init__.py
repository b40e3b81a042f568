"""Memory: what is known of candidates from one run to the next, and when they are asked for again."""
