"""One HTTP request over one checked connection."""
