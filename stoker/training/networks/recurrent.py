"""A recurrent language model: embedding, recurrent layers with dropout between, a linear output.

LSTM: Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 1997. GRU: Cho et al., "Learning phrase
representations using RNN encoder-decoder", EMNLP 2014. RNN: Elman, "Finding structure in time", Cognitive Science 1990.
Tied weights: Press and Wolf, "Using the output embedding to improve language models", EACL 2017. Variational dropout:
Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016.
"""

import itertools
from typing import Protocol

import torch
from torch import Tensor, nn

from stoker.training.networks.initialisation import open_forget_gates

State = tuple[Tensor, ...]  # of each layer h, and c of an LSTM: (1, B, hidden)
_TIED_RANGE = 0.1  # of tied weights: torch draws embeddings of deviation 1, of which logits would be too large


class RecurrentOptions(Protocol):
    """The options of model ``lstm`` that its network depends on; see there."""

    @property
    def cell(self) -> str:
        """lstm, gru or rnn."""

    @property
    def hidden(self) -> int:
        """Units of each layer."""

    @property
    def layers(self) -> int:
        """Stacked on each other."""

    @property
    def embedding(self) -> int:
        """Numbers that stand for a token."""

    @property
    def dropout(self) -> float:
        """Share of units left out."""

    @property
    def variational(self) -> bool:
        """Whether the same units are left out at all times of a window."""

    @property
    def forget_bias(self) -> float:
        """Of an LSTM's forget gates at the start."""

    @property
    def tied(self) -> bool:
        """Whether the output has the embedding's weights."""

    @property
    def mogrifier(self) -> int:
        """Rounds."""


class Recurrent(nn.Module):
    """One nn.LSTM, nn.GRU or nn.RNN a layer, with dropout between and a linear output.

    One a layer, not one of several layers: on Apple's MPS the latter's gradients are wrong with dropout
    (pytorch/pytorch#190056).
    """

    def __init__(self, options: RecurrentOptions, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, options.embedding)
        sizes = [options.embedding] + [options.hidden] * options.layers
        self.layers = nn.ModuleList(_layer(options, before, after) for before, after in itertools.pairwise(sizes))
        self.dropout = LockedDropout(options.dropout) if options.variational else nn.Dropout(options.dropout)
        self.output = nn.Linear(options.hidden, vocabulary)
        self.tensors = 2 if options.cell == "lstm" else 1  # of a layer's state
        if options.tied:
            nn.init.uniform_(self.embedding.weight, -_TIED_RANGE, _TIED_RANGE)
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State = ()) -> tuple[Tensor, State]:
        """Logits of the next token at every position.

        Args:
            tokens: (B, T) int64 in [0, vocabulary).
            state: what the call for the preceding T tokens returned; zeros if empty.

        Returns:
            (B, T, vocabulary) logits, and the state after the last token: h of each layer, (1, B, hidden), with c of
            an LSTM after it.
        """
        values: Tensor = self.embedding(tokens)
        next_state: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            before = state[self.tensors * number : self.tensors * (number + 1)] if state else ()
            if self.tensors == 2:
                values, after = layer(values, before or None)
                next_state += after
            else:
                values, hidden = layer(values, before[0] if before else None)
                next_state.append(hidden)
            values = self.dropout(values)
        return self.output(values), tuple(next_state)


def _layer(options: RecurrentOptions, before: int, after: int) -> nn.Module:
    if options.cell == "gru":
        return nn.GRU(before, after, batch_first=True)
    if options.cell == "rnn":
        return nn.RNN(before, after, batch_first=True)
    lstm = (
        Mogrifier(before, after, options.mogrifier) if options.mogrifier else nn.LSTM(before, after, batch_first=True)
    )
    open_forget_gates(lstm, options.forget_bias)
    return lstm


class OneStep(nn.Module):
    """A recurrent network for one token of each row: (B,) tokens and the state in, (B, vocabulary) logits and state."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Logits of the next token, and the state after this one; zeros are the state before the first."""
        logits, after = self.network(tokens[:, None], state)
        return (logits[:, 0], *after)


class LockedDropout(nn.Module):
    """Leaves the same units out at all times of a window, others in each row (variational dropout)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, units)."""
        if not self.training or not self.share:
            return values
        kept = torch.rand(values.shape[0], 1, values.shape[2], device=values.device) >= self.share
        return values * (kept / (1 - self.share)).to(values.dtype)


class Mogrifier(nn.LSTM):
    """An LSTM whose input and state gate each other, in turns, before each step.

    Source: Melis, Kočiský and Blunsom, "Mogrifier LSTM", ICLR 2020. An odd round scales the input by 2 sigmoid(Q h), an
    even one the state by 2 sigmoid(R x); without rounds it is an LSTM. The gates' weights start at 0, so that it
    begins as one.
    """

    def __init__(self, before: int, after: int, rounds: int) -> None:
        super().__init__(before, after, batch_first=True)
        self.gates = nn.ModuleList(
            nn.Linear(before, after) if number % 2 else nn.Linear(after, before) for number in range(rounds)
        )
        for gate in self.gates:
            assert isinstance(gate, nn.Linear)
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def forward(  # type: ignore[override]  # sequences of one length only
        self, values: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, after), and h and c after the last step."""
        empty = values.new_zeros(1, values.shape[0], self.hidden_size)
        hidden, cell = state or (empty, empty)
        outputs = []
        for step in values.unbind(1):
            for number, gate in enumerate(self.gates):
                if number % 2:
                    hidden = 2 * torch.sigmoid(gate(step)).unsqueeze(0) * hidden
                else:
                    step = 2 * torch.sigmoid(gate(hidden[0])) * step  # x of the formula
            output, (hidden, cell) = super().forward(step.unsqueeze(1), (hidden, cell))
            outputs.append(output)
        return torch.cat(outputs, 1), (hidden, cell)
