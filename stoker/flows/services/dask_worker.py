"""Preloaded by the workers of a local Dask cluster: they ignore signals; who started them ends them."""

import signal


def dask_setup(worker: object) -> None:
    """Called by Dask in the worker's main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
