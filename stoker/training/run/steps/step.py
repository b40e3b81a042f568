"""One optimiser step: the loss of a batch, its gradient, clipped and looked at, and the update of the weights."""

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.run.model import Model, Schema, StepOutput
from stoker.training.run.optimisers import build_optimiser, load_optimiser
from stoker.training.run.options import TrainOptions, skips_of
from stoker.training.run.steps import microbatches
from stoker.training.run.steps.events import RunConfig
from stoker.training.run.steps.nonfinite import Buffers, NonFiniteSteps, norm_of
from stoker.training.run.steps.parallel import Parallel
from stoker.training.run.steps.precision import LEAST_SCALE, Compiled, Precision, precision_of
from stoker.training.run.steps.ranks import Ranks, explained_step


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave."""

    loss: Tensor  # a scalar, detached
    examples: int
    state: tuple[Tensor, ...]  # see StepOutput
    numbers: Tensor  # the loss and the norm of the gradient
    applied: bool  # False: one of them was not finite, and the weights are as they were
    asked: tuple[float, ...] = ()  # sums over the ranks of what each asked for


@dataclass(slots=True, kw_only=True)
class Stepper:
    """Does the steps of a run."""

    model: Model
    module: nn.Module
    parameters: Sequence[nn.Parameter]  # of the module: to find them anew in each step takes long in a deep one
    optimiser: torch.optim.Optimizer
    options: TrainOptions
    device: torch.device
    nonfinite: NonFiniteSteps
    precision: Precision
    compiled: Compiled
    ranks: Ranks
    parallel: Parallel
    wrapped: nn.Module  # the network that exchanges gradients with the other ranks; alone the network itself

    def step(
        self,
        batch: Any,  # Any: the model's own
        state: tuple[Tensor, ...],
        learning_rate: float,
        ask: tuple[float, ...] = (),
    ) -> StepResult:
        """Train on a batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        buffers = Buffers(self.module) if self.nonfinite.allowed else None
        output, asked = self.compiled.call(lambda: self._backward(batch, state, ask))
        loss = output.loss
        numbers = self._numbers(loss)
        if self.nonfinite.must_wait(self.device) and not all(map(math.isfinite, numbers.tolist())):
            if buffers is not None:
                buffers.restore()
            if self.precision.scaler is not None:
                self.precision.scaler.update()
            return StepResult(loss, output.examples, state, numbers, False, asked)
        if self.precision.scaler is not None:
            self.precision.scaler.step(self.optimiser)  # does nothing where the gradient overflowed: the scale falls
            self.precision.scaler.update()
        else:
            self.optimiser.step()
        return StepResult(loss, output.examples, output.state, numbers, True, asked)

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], schema: Schema
    ) -> dict[str, Any]:  # Any: the model's own; JSON values
        """The metrics over held-out batches."""
        with self.compiled.left_out(), self.precision.autocast():
            return self.model.evaluate(module, batches, schema, self.device)

    def _backward(
        self,
        batch: Any,  # Any: the model's own
        state: tuple[Tensor, ...],
        ask: tuple[float, ...],
    ) -> tuple[StepOutput, tuple[float, ...]]:
        """The gradient of the mean loss over the global batch; that loss, detached, and what the ranks asked for."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.options.accumulate == 1 and self.ranks.world_size == 1:
            output = self._loss(batch, state)
            self._scaled(output.loss).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            return StepOutput(output.loss.detach(), output.examples, output.state), ask
        parts, states = self._parts(batch, state)
        outputs: list[StepOutput] = []
        for number, (part, part_state) in enumerate(zip(parts, states, strict=True)):
            last = number == len(parts) - 1
            with explained_step(), nullcontext() if last else self.parallel.no_exchange(self.wrapped):
                output = self._loss(part, part_state)
                # A part weighs what it has of the global batch's examples. How many these are is known behind the last
                # part, so that it is divided by a number of that size until then.
                weighted = output.loss * (output.examples / self.options.batch_size)
                self._scaled(weighted).backward()  # type: ignore[no-untyped-call]  # as above
            outputs.append(StepOutput(output.loss.detach(), output.examples, output.state))
        return self._joined(outputs, ask)

    def _parts(
        self, batch: Any, state: tuple[Tensor, ...]
    ) -> tuple[list[Any], list[tuple[Tensor, ...]]]:  # Any: as above
        """The parts of a batch, as many on all ranks, and of the recurrent state."""
        if self.options.accumulate == 1:
            return [batch], [state]
        rows = microbatches.rows_of(batch) or 0
        parts = microbatches.split(batch, min(self.options.accumulate, self.ranks.least(rows)))
        return parts, microbatches.split_state(state, [microbatches.rows_of(part) or 0 for part in parts])

    def _joined(self, outputs: list[StepOutput], ask: tuple[float, ...]) -> tuple[StepOutput, tuple[float, ...]]:
        """The output of the whole batch, and its gradient: what was summed up is divided by the number of examples."""
        own = sum(output.examples for output in outputs)
        loss = torch.stack([output.loss.float() * output.examples for output in outputs]).sum()
        known = self.nonfinite.must_wait(self.device)  # else asking a GPU for the loss would hold it up
        examples, total, *asked = self.ranks.sum([own, float(loss) if known else 0.0, *ask])
        loss = loss.new_tensor(total / max(1, examples)) if known else loss / max(1, own)
        self._scale_gradients(self.options.batch_size * self.ranks.world_size / max(1, examples))
        state = microbatches.join_state([output.state for output in outputs])
        return StepOutput(loss, int(examples), state), tuple(asked)

    def _loss(self, batch: Any, state: tuple[Tensor, ...]) -> StepOutput:  # Any: the model's own
        with self.parallel.computing(), self.precision.autocast():
            return self.model.compute_loss(self.wrapped, batch, state, self.device)

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.precision.scaler is None else self.precision.scaler.scale(loss)

    def _numbers(self, loss: Tensor) -> Tensor:
        """The loss and the norm of the gradient, which is clipped."""
        scaler = self.precision.scaler
        if scaler is not None:
            scaler.unscale_(self.optimiser)
        norm = norm_of(self.parameters, self.options.clip).float()
        if scaler is not None and scaler.get_scale() > LEAST_SCALE:
            norm = torch.zeros_like(norm)  # an overflow, which a smaller scale of the next steps mends
        return torch.stack([loss.float(), norm])

    def _scale_gradients(self, factor: float) -> None:
        if factor == 1:
            return
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, factor)


def stepper_of(
    config: RunConfig,
    module: nn.Module,
    parallel: Parallel,
    device: torch.device,
    steps: int,
    saved: dict[str, Any] | None,  # Any: tensors and plain values
) -> Stepper:
    """What does the steps, at the start of a run or at a checkpoint, with a network that ``parallel`` has placed."""
    options, saved = config.options, saved or {}
    precision = precision_of(options, module, device)
    optimiser = build_optimiser(module, options)
    if saved:
        load_optimiser(optimiser, saved["optimiser"], device)
        precision.load_state_dict(saved.get("scaler", {}))
    allowed, skipped = skips_of(options.on_nan), saved.get("nonfinite", 0)
    compiled = Compiled(module, wanted=options.compile)
    return Stepper(
        model=config.model,
        module=module,
        parameters=tuple(module.parameters()),
        optimiser=optimiser,
        options=options,
        device=device,
        nonfinite=NonFiniteSteps(config.name, steps, config.folder, allowed=allowed, skipped=skipped),
        precision=precision,
        compiled=compiled,
        ranks=config.ranks,
        parallel=parallel,
        wrapped=parallel.wrap(module),
    )
