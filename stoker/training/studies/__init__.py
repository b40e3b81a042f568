"""Studies: claims about methods of learning, each measured on a version."""
