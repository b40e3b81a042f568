"""One optimiser step: the loss of a batch, its gradient, clipped and looked at, and the update of the weights."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.run.model import Model
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.nonfinite import Buffers, NonFiniteSteps, norm_of


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave."""

    loss: Tensor  # a scalar, detached
    examples: int
    state: tuple[Tensor, ...]  # see StepOutput
    numbers: Tensor  # the loss and the norm of the gradient
    applied: bool  # False: one of them was not finite, and the weights are as they were


@dataclass(slots=True, kw_only=True)
class Stepper:
    """Does the steps of a run."""

    model: Model
    module: nn.Module
    optimiser: torch.optim.Optimizer
    options: TrainOptions
    device: torch.device
    nonfinite: NonFiniteSteps

    def step(self, batch: Any, state: tuple[Tensor, ...], learning_rate: float) -> StepResult:  # Any: the model's own
        """Train on a batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad(set_to_none=True)
        buffers = Buffers(self.module) if self.nonfinite.allowed else None
        output = self.model.compute_loss(self.module, batch, state, self.device)
        output.loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        loss = output.loss.detach()
        numbers = torch.stack([loss.float(), norm_of(self.module, self.options.clip).float()])
        if self.nonfinite.must_wait(self.device) and not bool(numbers.isfinite().all()):
            if buffers is not None:
                buffers.restore()
            return StepResult(loss, output.examples, state, numbers, applied=False)
        self.optimiser.step()
        return StepResult(loss, output.examples, output.state, numbers, applied=True)
