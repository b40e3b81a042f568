"""Experiment trackers that metrics are sent to as well; each is imported where a run names it."""
