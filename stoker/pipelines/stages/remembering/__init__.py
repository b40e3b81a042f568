"""What a corpus remembers of candidates: which are asked for, what became of them, and when they are tried again."""
