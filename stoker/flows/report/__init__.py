"""What a version holds, for the terminal and the web page."""
