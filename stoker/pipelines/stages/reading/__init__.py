"""What is read of a partition so far: its finished candidates in the store, and what all lack, counted."""
