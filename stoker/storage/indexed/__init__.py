"""External WebDataset tars, indexed in place."""
