"""A language model of bytes: LSTM, GRU or a plain recurrent net, by truncated back-propagation through time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import nn

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.networks.recurrent import OneStep, Recurrent, State
from stoker.training.run.model import Corpus, Schema, StepOutput, Traceable
from stoker.training.stream.stream import ShardStream, split_shards
from stoker.training.stream.subset import Needs, survey, usable
from stoker.training.stream.text import BOUNDARY, VOCABULARY, TextStream, text_of
from stoker.training.stream.tokens import BYTES

_MAX_PROMPT = 100_000  # characters
_START = 32  # bytes of a text that a written one begins with
_NEEDS = Needs((BYTES.field,), "text")


@dataclass(frozen=True)
class Lstm:
    """Predicts the next byte of a text by recurrent layers (LSTM: Hochreiter and Schmidhuber, Neural Computation 1997).

    The state goes from window to window, without gradients. Evaluated in bits per byte and bits per character of
    held-out text; a character may be up to four bytes of UTF-8.

    ``cell``: gru: Cho et al., EMNLP 2014; rnn: Elman, 1990. ``mogrifier``: Melis, Kočiský and Blunsom, "Mogrifier
    LSTM", ICLR 2020, whose best had 5 rounds. ``variational``: Gal and Ghahramani, NeurIPS 2016. ``tied``: Press and
    Wolf, EACL 2017. ``forget_bias``: Jozefowicz, Zaremba and Sutskever, ICML 2015.

    Args:
        cell: of the layers: lstm, gru, or rnn for a plain one.
        hidden: units of each layer.
        layers: stacked on each other.
        embedding: numbers that stand for a byte.
        dropout: share of units left out between layers and before the output.
        variational: leave the same units out at all times of a window.
        forget_bias: of the forget gates at the start, cell lstm.
        tied: the output has the embedding's weights; embedding must be hidden then.
        mogrifier: rounds in which input and state gate each other before each step, cell lstm; 0: none.
        window: tokens that gradients reach back.
        sample_length: bytes of the text that is written at the end.
        temperature: of that text; lower is more predictable.
        prompt: what that text begins with; "": the first words of the corpus. A finished run writes with --resume.

    Example::

        stoker train lstm handbook --set hidden=512 --set window=128
    """

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 64
    dropout: float = 0.1
    variational: bool = False
    forget_bias: float = 1.0
    tied: bool = False
    mogrifier: int = 0
    window: int = 64
    sample_length: int = 400
    temperature: float = 0.7
    prompt: str = ""

    takes_device_batches: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("prompt",)  # options that change no weights
    added: ClassVar[tuple[str, ...]] = ("cell", "variational", "forget_bias", "tied", "mogrifier")
    defaults: ClassVar[dict[str, Any]] = {"epochs": 4, "batch_size": 32, "learning_rate": 0.004, "weight_decay": 0.0}

    def __post_init__(self) -> None:
        for name, minimum in (("hidden", 1), ("layers", 1), ("embedding", 1), ("window", 2), ("sample_length", 0)):
            if getattr(self, name) < minimum:
                raise TrainingError(f"lstm: {name} = {getattr(self, name)}; expected {minimum} or more")
        if not 0 <= self.dropout < 1 or not self.temperature > 0:
            raise TrainingError("lstm: expected dropout from 0 to below 1, and temperature above 0")
        if self.tied and self.embedding != self.hidden:
            raise TrainingError(
                f"lstm: tied needs embedding = hidden, found {self.embedding} and {self.hidden}; "
                f"set embedding={self.hidden}"
            )
        if not 0 <= self.mogrifier <= 16 or (self.mogrifier and self.cell != "lstm"):
            raise TrainingError(
                f"lstm: mogrifier = {self.mogrifier} with cell {self.cell}; expected 0 to 16 rounds, and cell lstm"
            )
        if not math.isfinite(self.forget_bias):
            raise TrainingError(f"lstm: forget_bias = {self.forget_bias}; expected a finite number")
        if len(self.prompt) > _MAX_PROMPT:
            raise TrainingError(f"lstm: a prompt of {len(self.prompt):,} characters; at most {_MAX_PROMPT:,} are read")

    def prepare(self, corpus: Corpus, split: str) -> Schema:
        """See Model: the vocabulary is that of bytes, whatever the corpus. Samples without a text are left out."""
        found = survey(corpus.store, corpus.manifest, _NEEDS, cache=corpus.cache)
        split_shards(corpus.manifest, split)
        if not found.usable[split]:
            raise TrainingError(
                f"{corpus.manifest.reference}: all samples of split {split!r} are without a field 'txt'; a language "
                "model needs a corpus of texts"
            )
        left_out = {"left_out": found.left_out} if found.left_out else {}
        return {"vocabulary": VOCABULARY, "start": _first_words(corpus, split, found.left_out), **left_out}

    def data(self, corpus: Corpus, split: str, schema: Schema, *, batch_size: int, seed: int, training: bool) -> Stream:
        """See Model. A batch: (B, T) int64 tokens, and as targets the same windows one token later."""
        left_out = schema.get("left_out", [])
        manifest = usable(corpus.store, corpus.manifest, split, _NEEDS, left_out=left_out, cache=corpus.cache)
        if not training:
            batch_size = self._fitting_batch_size(replace(corpus, manifest=manifest), split, batch_size)
        return TextStream(
            corpus.store,
            manifest,
            split,
            batch_size=batch_size,
            window=self.window,
            seed=seed,
            shuffle=training,
            cache=corpus.cache,
            rank=corpus.rank,
            world_size=corpus.world_size,
        )

    def _fitting_batch_size(self, corpus: Corpus, split: str, rows: int) -> int:
        """At most ``rows``, but no more than a small held-out split can fill: it is read in fewer rows, not refused."""
        stream = TextStream(corpus.store, corpus.manifest, split, batch_size=1, window=self.window, cache=corpus.cache)
        stream.close()
        while rows > 1 and stream.tokens // rows <= self.window:
            rows //= 2
        return rows

    def build(self, schema: Schema) -> nn.Module:
        """See Model."""
        return Recurrent(self, schema["vocabulary"])

    def compute_loss(self, module: nn.Module, batch: Any, state: State, device: torch.device) -> StepOutput:
        """See Model: cross-entropy in nats a token."""
        tokens, targets = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
        logits, state = module(tokens, state)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        return StepOutput(loss, targets.numel(), tuple(tensor.detach() for tensor in state))

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], schema: Schema, device: torch.device
    ) -> dict[str, Any]:
        """``bits_per_byte``, ``bits_per_character``, ``perplexity`` and ``loss`` (nats a token), state carried.

        Characters are counted in UTF-8. All bits, those of boundaries too, are divided by the bytes, and by the
        characters, that were predicted.
        """
        nats, tokens, text_bytes, characters = 0.0, 0, 0, 0
        state: State = ()
        for batch in batches:
            output = self.compute_loss(module, batch, state, device)
            state = output.state
            nats += float(output.loss) * output.examples
            tokens += output.examples
            targets = batch[1][(batch[1] >= 0) & (batch[1] < BOUNDARY)]
            text_bytes += targets.numel()
            characters += int((targets & 0xC0 != 0x80).sum())  # bytes 0b10xxxxxx continue a character of UTF-8
        loss = nats / max(1, tokens)
        bits = nats / math.log(2)
        per_byte = bits / max(1, text_bytes)
        return {
            "score": -loss / math.log(2),
            "bits_per_byte": per_byte,
            "bits_per_character": bits / max(1, characters),
            "loss": loss,
            "perplexity": math.exp(min(50.0, loss)),
            "tokens": tokens,
        }

    def traceable(self, module: nn.Module, schema: Schema) -> Traceable:
        """See Model: one step, because torch.export fixes the length of a sequence."""
        with torch.no_grad():
            _, state = module(torch.zeros(2, 1, dtype=torch.int64))
        names = tuple(f"state_{number}" for number in range(len(state)))
        tokens = torch.zeros(2, dtype=torch.int64)
        return Traceable(
            OneStep(module),
            (tokens, *(torch.zeros_like(tensor) for tensor in state)),
            (0, *(1 for _ in state)),
            ("tokens", *names),
            ("logits", *(f"next_{name}" for name in names)),
        )

    @torch.no_grad()
    def generate(self, module: nn.Module, schema: Schema, device: torch.device, seed: int) -> str:
        """See Model: the prompt, as the beginning of a document, and what follows it, drawn at ``temperature``.

        Without a prompt the first words of the corpus: after a boundary alone, which is seldom seen, little is learned.
        """
        generator = torch.Generator().manual_seed(seed)
        written = list((self.prompt or schema.get("start", "")).encode("utf-8", "replace"))
        if not self.sample_length:
            return ""
        tokens, state, prompted = [BOUNDARY, *written], (), len(written)
        while len(written) - prompted < self.sample_length:
            logits, state = module(torch.tensor([tokens], device=device), state)
            probabilities = torch.softmax(logits[0, -1].float().cpu() / self.temperature, 0)
            tokens = [int(torch.multinomial(probabilities, 1, generator=generator))]
            written += tokens
        return text_of(written)


def _first_words(corpus: Corpus, split: str, left_out: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON values
    """The beginning of the first document, at most so many bytes."""
    manifest = usable(corpus.store, corpus.manifest, split, _NEEDS, left_out=left_out, cache=corpus.cache)
    stream = ShardStream(corpus.store, manifest, split, batch_size=1, shuffle=False, cache=corpus.cache)
    try:
        payload = next((one for batch in stream for one in batch.column(BYTES.field)), None)
        first = bytes(payload[: _START + 1]).decode("utf-8", "ignore") if payload is not None else ""
    finally:
        stream.close()
    return first.rsplit(maxsplit=1)[0] if len(first.encode()) > _START and len(first.split()) > 1 else first
