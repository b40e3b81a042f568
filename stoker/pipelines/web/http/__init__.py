"""Single HTTP requests: checked addresses, limits per host, one connection each, and the outcome of a response."""
