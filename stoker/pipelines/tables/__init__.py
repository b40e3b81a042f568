"""Tables and lists as inputs: Parquet and Arrow files, Hugging Face data sets, lists of URLs."""
