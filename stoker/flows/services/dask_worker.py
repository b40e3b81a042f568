"""Preloaded by the workers of a local Dask cluster: Ctrl-C is for the one who started it, who then stops them."""

import signal


def dask_setup(worker: object) -> None:
    """Called by Dask in the worker's main thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
