"""What a corpus remembers beside its versions: outcomes, plans, and what its owner took out."""
