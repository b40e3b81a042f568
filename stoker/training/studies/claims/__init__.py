"""The claims: which rows a study measures, and by how much they are to differ."""
