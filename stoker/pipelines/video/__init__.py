"""Reading frames of video files at chosen times."""
