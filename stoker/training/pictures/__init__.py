"""Batches of images: JPEG regions, EXIF orientation, crops."""
