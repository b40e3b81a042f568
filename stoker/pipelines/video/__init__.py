"""Frames of videos, by time."""
