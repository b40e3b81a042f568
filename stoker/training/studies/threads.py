"""One thread for torch: several burn many times the processor time on a machine that does other work too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes in one thread, deterministically; afterwards as before, with its random numbers too.

    Numbers below 1e-38 count as 0 where the processor can do so. A deep net that learns nothing is full of them; each
    costs an Intel processor a hundred cycles: 1,001 plain layers took seven times as long as residual ones.
    """
    threads, were_kept = torch.get_num_threads(), _keeps_denormals()
    with torch.random.fork_rng():
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(not were_kept)


def _keeps_denormals() -> bool:
    """Torch does not tell how it is set."""
    return bool((torch.tensor([1e-39]) * 1.0).count_nonzero())
