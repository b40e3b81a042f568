"""One file each; the file's name is its name in recipes."""
