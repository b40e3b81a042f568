"""SQL over a version, and the databases of DuckDB that answer."""
