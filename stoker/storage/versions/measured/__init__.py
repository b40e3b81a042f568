"""What was measured on a version: studies."""
