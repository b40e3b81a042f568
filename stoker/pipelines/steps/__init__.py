"""The built-in steps, one file each; the file's name is the name in recipes."""
