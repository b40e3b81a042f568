"""What rules decide about tables of records: SQL and other tools that they have, and the check of their decisions."""
