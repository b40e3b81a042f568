"""What was measured on a version: studies, and pairs of near-duplicate images."""
