"""How a network computes: in which precision, memory format, and whether compiled."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.shards import is_shard

_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LONGEST_REASON = 200  # characters of a compiler's error
LEAST_SCALE = 1.0  # of a float16 loss: gradients that overflow below it are not finite whatever the scale
Result = TypeVar("Result")


@dataclass(slots=True)
class Precision:
    """Autocast of a run, and for float16 the scaler of the loss: weights and optimiser stay in float32.

    Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """

    device: torch.device
    type: torch.dtype | None  # None: float32
    scaler: torch.amp.GradScaler | None

    def autocast(self) -> AbstractContextManager[Any]:  # Any: nothing is bound to it
        """The context of each forward pass and loss."""
        return nullcontext() if self.type is None else torch.autocast(self.device.type, self.type)

    def state_dict(self) -> dict[str, Any]:  # Any: plain values
        """The scale of the loss, for a checkpoint."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:  # Any: plain values
        """Go on with that scale."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


def precision_of(options: TrainOptions, module: nn.Module, device: torch.device) -> Precision:
    """The precision of a run. Raises TrainingError for one that the device cannot compute in."""
    kind = _TYPES[options.precision]
    if kind is torch.float16 and device.type == "cpu" and has_recurrent_layers(module):
        raise TrainingError("precision float16: torch has no LSTM of it on a CPU; take bfloat16")
    scaler = torch.amp.GradScaler(device.type) if kind is torch.float16 else None
    return Precision(device, kind, scaler)


def has_recurrent_layers(module: nn.Module) -> bool:
    """Whether a network has a recurrent layer of torch's own."""
    return any(isinstance(layer, nn.RNNBase) for layer in module.modules())


class Compiled:
    """A network compiled by torch, or as it is where that cannot be done: then one line says why.

    Not around recurrent layers: torch breaks its graph at each, compiles for long and computes no faster
    (pytorch/pytorch#141184, #185135).

    Args:
        module: compiled in place; its parameters keep their names.
        wanted: False: nothing is compiled.
    """

    def __init__(self, module: nn.Module, *, wanted: bool) -> None:
        self._module = module
        self.notes: list[str] = []  # the line, until it is told
        self._compiled = False
        if wanted and has_recurrent_layers(module):
            self.notes.append("compile: not used, since the network has recurrent layers, which it does not help")
        elif wanted and any(map(is_shard, module.parameters())):
            self.notes.append("compile: not used, since the ranks share the network's weights (fsdp)")
        elif wanted:
            module.compile(dynamic=False)  # of each size of batch by itself: a resumed run begins with another one
            self._compiled = True

    def call(self, work: Callable[[], Result]) -> Result:
        """What work with the network returns; done again without compiling if that fails."""
        if not self._compiled:
            return work()
        random_state = torch.get_rng_state()
        try:
            return work()
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            self._compiled = False
            self._module._compiled_call_impl = None  # what module.compile() has set: there is no call to undo it
            torch.set_rng_state(random_state)
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            self.notes.append(f"compile: not used, since it fails here: {reason}")
            return work()

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """The network as it is, uncompiled: where compiling fails amid an evaluation, its batches are used up."""
        compiled, self._module._compiled_call_impl = self._module._compiled_call_impl, None
        try:
            yield
        finally:
            self._module._compiled_call_impl = compiled
