"""What the command line understands: the parser, its messages, and what a shell completes."""
