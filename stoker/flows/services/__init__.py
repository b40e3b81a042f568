"""The servers of `stoker up` and the scheduler."""
