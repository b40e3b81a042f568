"""A language model of bytes: long short-term memory, trained by truncated back-propagation through time."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.run.initialise import open_forget_gates
from stoker.training.run.model import Corpus, Facts, Outcome
from stoker.training.stream.text import BOUNDARY, VOCABULARY, TextStream, text_of

State = tuple[Tensor, ...]  # h and c of each layer, (1, B, hidden)


@dataclass(frozen=True)
class Lstm:
    """Predicts the next byte of a text (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997).

    The state is carried from window to window, without gradients. Evaluated in bits per byte of held-out text, which
    for English is near to bits per character.

    Example::

        stoker train lstm handbook --set hidden=512 --set window=128
    """

    hidden: int = 256
    layers: int = 1
    embedding: int = 64
    dropout: float = 0.1  # between layers and before the output
    window: int = 64  # tokens that gradients reach back
    sample_length: int = 400  # bytes of the text that is written at the end
    temperature: float = 0.7  # of that text

    defaults: ClassVar[dict[str, Any]] = {"epochs": 4, "batch_size": 32, "learning_rate": 0.004, "weight_decay": 0.0}

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("layers", 1), ("embedding", 1), ("window", 2), ("sample_length", 0)):
            if getattr(self, name) < least:
                raise TrainingError(f"lstm: {name} = {getattr(self, name)}; expected {least} or more")
        if not 0 <= self.dropout < 1 or not self.temperature > 0:
            raise TrainingError("lstm: expected dropout from 0 to below 1, and temperature above 0")

    def learn(self, corpus: Corpus, split: str) -> Facts:
        """The vocabulary is that of bytes: nothing needs to be learned."""
        return {"vocabulary": VOCABULARY}

    def feed(self, corpus: Corpus, split: str, facts: Facts, *, batch_size: int, seed: int, training: bool) -> Stream:
        """See Model. A batch: (B, T) int64 tokens, and the same one place further."""
        if not training:
            batch_size = self._held_out_rows(corpus, split, batch_size)
        return TextStream(
            corpus.store,
            corpus.manifest,
            split,
            batch_size=batch_size,
            window=self.window,
            seed=seed,
            shuffle=training,
            cache=corpus.cache,
        )

    def _held_out_rows(self, corpus: Corpus, split: str, rows: int) -> int:
        """As many rows as the split can fill: a small one is read in fewer, and not refused."""
        one = TextStream(corpus.store, corpus.manifest, split, batch_size=1, window=self.window, cache=corpus.cache)
        one.close()
        while rows > 1 and one.tokens // rows <= self.window:
            rows //= 2
        return rows

    def build(self, facts: Facts) -> nn.Module:
        """See Model."""
        return _Network(self, facts["vocabulary"])

    def outcome(self, module: nn.Module, batch: Any, carried: State, device: torch.device) -> Outcome:
        """See Model: cross-entropy in nats a token."""
        tokens, targets = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
        logits, state = module(tokens, carried)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return Outcome(loss, targets.numel(), tuple(one.detach() for one in state))

    def evaluate(self, module: nn.Module, batches: Iterable[Any], facts: Facts, device: torch.device) -> dict[str, Any]:
        """``bits_per_character`` (of bytes), ``perplexity`` and ``loss`` (nats) over all windows, state carried."""
        nats, count = 0.0, 0
        state: State = ()
        for batch in batches:
            got = self.outcome(module, batch, state, device)
            state = got.carried
            nats += float(got.loss) * got.examples
            count += got.examples
        loss = nats / max(1, count)
        bits = loss / math.log(2)
        return {
            "score": -bits,
            "bits_per_character": bits,
            "loss": loss,
            "perplexity": math.exp(min(50.0, loss)),
            "tokens": count,
        }

    @torch.no_grad()
    def sample(self, module: nn.Module, facts: Facts, device: torch.device, seed: int) -> str:
        """A text from the boundary on, drawn at ``temperature``."""
        random = torch.Generator().manual_seed(seed)
        token, state, found = BOUNDARY, (), []
        for _ in range(self.sample_length):
            logits, state = module(torch.tensor([[token]], device=device), state)
            chances = torch.softmax(logits[0, -1].float().cpu() / self.temperature, 0)
            token = int(torch.multinomial(chances, 1, generator=random))
            found.append(token)
        return text_of(found)


class _Network(nn.Module):
    """Embedding, one nn.LSTM a layer with dropout between, a linear output.

    One nn.LSTM a layer, not one of several layers: on Apple's MPS the latter's gradients are wrong with dropout
    (pytorch/pytorch#190056).
    """

    def __init__(self, options: Lstm, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, options.embedding)
        sizes = [options.embedding] + [options.hidden] * options.layers
        self.layers = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True) for before, after in itertools.pairwise(sizes)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.LSTM)
            open_forget_gates(layer)
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.hidden, vocabulary)

    def forward(self, tokens: Tensor, state: State = ()) -> tuple[Tensor, State]:
        """Logits of the next token at every position.

        Args:
            tokens: (B, T) int64 in [0, vocabulary).
            state: what the call for the preceding T tokens returned; zeros if empty.

        Returns:
            (B, T, vocabulary) logits, and the state after the last token: h and c of each layer, (1, B, hidden).
        """
        values: Tensor = self.embedding(tokens)
        after: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            before = (state[2 * number], state[2 * number + 1]) if state else None
            values, (hidden, cell) = layer(values, before)
            values = self.dropout(values)
            after += [hidden, cell]
        return self.output(values), tuple(after)
