"""A moving average of the weights, which is evaluated in their place.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM 1992; with the exponential decay, and
its warm-up by the number of steps, of Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stoker.training.run.steps.shards import local

_Tensors = tuple[Tensor, ...] | list[Tensor]


class Average(AveragedModel):
    """A copy of a network that follows it, buffers too, with its count of updates; ``module`` is the network itself."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module, multi_avg_fn=self._blend, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def _blend(self, averages: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        averages, current = [*map(local, averages)], [*map(local, current)]  # weights may be shards, buffers are not
        if not averages[0].is_floating_point():  # counts of batches
            torch._foreach_copy_(averages, current)
            return
        updates = int(self.n_averaged)  # the same as count, which may be on a GPU, and would be waited for
        decay = min(self.decay, (1 + updates) / (10 + updates))  # or the first weights would count for long
        torch._foreach_lerp_(averages, current, 1 - decay)


def weights_of(state: Mapping[str, Any]) -> Mapping[str, Tensor]:  # Any: tensors and plain values
    """The weights of a checkpoint's state that were evaluated: the averaged ones if there are."""
    average = state.get("average")
    if not average:
        return state["module"]  # type: ignore[no-any-return]  # see above
    return {name.removeprefix("module."): values for name, values in average.items() if name != "n_averaged"}
