"""Where objects lie: S3, a directory, memory."""
