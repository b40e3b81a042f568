"""Studies compute in one thread and pass over tiny numbers; afterwards torch is set as before."""

import pytest
import torch

from stoker.training.studies.threads import one_thread

TINY = 1e-39  # float32 has it as a denormal number


def is_kept() -> bool:
    return bool((torch.tensor([TINY]) * 1.0).count_nonzero())


@pytest.mark.parametrize("were_kept", [True, False])
def test_tiny_numbers_are_0_within_and_as_before_afterwards(were_kept: bool) -> None:
    if not torch.set_flush_denormal(not were_kept):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        with one_thread():
            assert not is_kept()
            assert torch.get_num_threads() == 1
        assert is_kept() is were_kept
    finally:
        torch.set_flush_denormal(False)
