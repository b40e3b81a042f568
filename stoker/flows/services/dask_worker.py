"""Preloaded by the workers of a local Dask cluster: they ignore Ctrl-C, and the process that started them ends them."""

import signal


def dask_setup(worker: object) -> None:
    """Called by Dask in the worker's main thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
