"""The built-in rules, one file each; the file's name is the name in recipes."""
