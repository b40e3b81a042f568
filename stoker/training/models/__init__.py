"""One model a file; the file's name is its name on the command line."""
