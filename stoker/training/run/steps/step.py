"""One optimiser step: the loss of a batch, its gradient, clipped and looked at, and the update of the weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.run.model import Model, Schema, StepOutput
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps import microbatches
from stoker.training.run.steps.nonfinite import Buffers, NonFiniteSteps, norm_of
from stoker.training.run.steps.precision import LEAST_SCALE, Compiled, Precision


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
    precision: Precision
    compiled: Compiled

    def step(self, batch: Any, state: tuple[Tensor, ...], learning_rate: float) -> StepResult:  # Any: the model's own
        """Train on a batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        buffers = Buffers(self.module) if self.nonfinite.allowed else None
        output = self.compiled.call(lambda: self._backward(batch, state))
        loss = output.loss
        numbers = self._numbers(loss)
        if self.nonfinite.must_wait(self.device) and not bool(numbers.isfinite().all()):
            if buffers is not None:
                buffers.restore()
            if self.precision.scaler is not None:
                self.precision.scaler.update()
            return StepResult(loss, output.examples, state, numbers, applied=False)
        if self.precision.scaler is not None:
            self.precision.scaler.step(self.optimiser)  # does nothing where the gradient overflowed: the scale falls
            self.precision.scaler.update()
        else:
            self.optimiser.step()
        return StepResult(loss, output.examples, output.state, numbers, applied=True)

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], schema: Schema
    ) -> dict[str, Any]:  # Any: the model's own; JSON values
        """The metrics over held-out batches."""
        with self.precision.autocast():
            return self.model.evaluate(module, batches, schema, self.device)

    def _backward(self, batch: Any, state: tuple[Tensor, ...]) -> StepOutput:  # Any: the model's own
        """The gradient of the mean loss over the batch, and that loss, detached."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.options.accumulate == 1:
            output = self._loss(batch, state)
            self._scaled(output.loss).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            return StepOutput(output.loss.detach(), output.examples, output.state)
        parts = microbatches.split(batch, self.options.accumulate)
        sizes = [microbatches.rows_of(part) or 0 for part in parts]
        outputs: list[StepOutput] = []
        for part, part_state in zip(parts, microbatches.split_state(state, sizes), strict=True):
            output = self._loss(part, part_state)
            # A part weighs what it has of the batch's examples. How many these are is known behind the last part, so
            # the weights are examples a row until then.
            weighted = output.loss * (output.examples / max(1, sum(sizes)))
            self._scaled(weighted).backward()  # type: ignore[no-untyped-call]  # as above
            outputs.append(StepOutput(output.loss.detach(), output.examples, output.state))
        examples = sum(output.examples for output in outputs)
        self._scale_gradients(sum(sizes) / max(1, examples))
        total = torch.stack([output.loss * output.examples for output in outputs]).sum()
        return StepOutput(
            total / max(1, examples), examples, microbatches.join_state([output.state for output in outputs])
        )

    def _loss(self, batch: Any, state: tuple[Tensor, ...]) -> StepOutput:  # Any: the model's own
        with self.precision.autocast():
            return self.model.compute_loss(self.module, batch, state, self.device)

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.precision.scaler is None else self.precision.scaler.scale(loss)

    def _numbers(self, loss: Tensor) -> Tensor:
        """The loss and the norm of the gradient, which is clipped."""
        scaler = self.precision.scaler
        if scaler is not None:
            scaler.unscale_(self.optimiser)
        norm = norm_of(self.module, self.options.clip).float()
        if scaler is not None and scaler.get_scale() > LEAST_SCALE:
            norm = torch.zeros_like(norm)  # an overflow, which a smaller scale of the next steps mends
        return torch.stack([loss.float(), norm])

    def _scale_gradients(self, factor: float) -> None:
        if factor == 1:
            return
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, factor)
