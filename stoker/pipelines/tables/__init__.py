"""Lists of URLs and tables of rows."""
