"""Processes that decode images whose decoders may crash, or take too much time or memory."""
