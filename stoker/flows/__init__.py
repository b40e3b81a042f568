"""Flows: Prefect, the command line and the web page; the only layer that knows who is asking."""
