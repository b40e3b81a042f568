"""What the trainer costs: `stoker train` beside a bare PyTorch loop, and a character LSTM beside a plain script.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_train.py [--rounds 5] [--epochs 4] [--only lenet|lstm]
        [--images fashion] [--texts enwiki] [--store DIR]

Prints a JSON object a line. ``lenet``: LeNet-5 on scikit-learn's digits by the trainer, and by a bare loop over the
same batches with the same network, optimiser and evaluations; ``ratio``: the median of the rounds' ratios of processor
time, one thread. With ``--images`` on a corpus of images that was published: digits are over in seconds, in which what
a run does once weighs much. ``lstm``: a language model of bytes on Python's own documentation beside a plain script of
the same size that shares nothing with Stoker; ``ratio`` as above, and ``loss``: the median of the ratios of held-out
losses. With ``--texts`` on a corpus of texts that was published, such as one of Wikipedia, by its splits train and
validation.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import Tensor, nn

import stoker
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions.manifest import Manifest
from stoker.training import train
from stoker.training.loader.loader import Loader
from stoker.training.run.model import Corpus
from stoker.training.run.optimisers import build_optimiser
from stoker.training.run.options import parse_options
from stoker.training.run.train import Event
from tests.training import corpora

LENET = {"net": "lenet5", "pixels": 28, "batch_size": 64, "workers": 0, "device": "cpu", "threads": 1}
LSTM = {"hidden": 128, "embedding": 64, "window": 64, "batch_size": 16, "dropout": 0.0, "workers": 0, "device": "cpu"}
LSTM |= {"threads": 1, "sample_length": 0, "weight_decay": 0.0, "learning_rate": 0.004}


def trained(store: DirectoryStore, manifest: Manifest, model: str, options: dict[str, Any], folder: Path) -> Any:
    """Processor time of the steps, evaluations and checkpoints of a run, and its last metrics."""
    times: dict[str, float] = {}

    def note(event: Event) -> None:
        times.setdefault(event.kind, time.process_time())

    result = train(store, manifest, model, options, folder=folder / "runs", cache=folder / "cache", progress=note)
    return times["end"] - times["start"], result.metrics


def bare_lenet(store: DirectoryStore, manifest: Manifest, options: dict[str, Any], folder: Path) -> float:
    """Processor time of a loop over the same batches, without anything around it."""
    model, train_options = parse_options("cnn", options)
    device = torch.device("cpu")
    corpus = Corpus(store, manifest, folder / "cache", skip_budget=100)
    torch.manual_seed(0)
    schema = model.prepare(corpus, "train")
    module = model.build(schema)
    optimiser = build_optimiser(module, train_options)
    tested_on = next(split for split in sorted(manifest.splits, reverse=True) if split != "train")
    streams = [
        model.data(corpus, split, schema, batch_size=64, seed=0, training=split == "train")
        for split in ("train", tested_on)
    ]
    begun = time.process_time()
    for _ in range(train_options.epochs):
        module.train()
        for batch in Loader(streams[0]):
            optimiser.zero_grad()
            loss = model.compute_loss(module, batch, (), device).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
        module.eval()
        with torch.no_grad():
            model.evaluate(module, Loader(streams[1]), schema, device)
        streams[1].epoch = streams[1].delivered = 0
    passed = time.process_time() - begun
    for stream in streams:
        stream.close()
    return passed


class Plain(nn.Module):
    """A character LSTM as any tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 64)
        self.output = nn.Linear(128, 257)
        self.lstm = nn.LSTM(64, 128, batch_first=True)

    def forward(self, tokens: Tensor, state: Any) -> Any:
        values, state = self.lstm(self.embedding(tokens), state)
        return self.output(values), state


def plain_lstm(splits: dict[str, list[Sample]], epochs: int, seed: int) -> tuple[float, float]:
    """Processor time, and the loss on the held-out texts, of the plain script."""
    torch.manual_seed(seed)
    module, generator = Plain(), np.random.default_rng(seed)
    with torch.no_grad():
        biases = dict(module.lstm.named_parameters())
        biases["bias_ih_l0"][128:256] = 1.0
        biases["bias_hh_l0"][128:256] = 0.0
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.004, weight_decay=0.0, fused=True)

    def windows(texts: list[Sample]) -> Any:
        ids = [np.concatenate([[256], np.frombuffer(text.fields["txt"], np.uint8)]) for text in texts]
        text = torch.from_numpy(np.concatenate(ids).astype(np.int64))
        rows = text[: len(text) // 16 * 16].view(16, -1)
        for first in range(0, rows.shape[1] - 65, 64):
            yield rows[:, first : first + 64], rows[:, first + 1 : first + 65]

    steps = epochs * sum(1 for _ in windows(splits["train"]))
    warmup = round(0.05 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            (step + 1) / warmup if step < warmup else 0.5 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup)))
        ),
    )
    loss = 0.0
    begun = time.process_time()
    for _ in range(epochs):
        state: Any = None
        texts = [splits["train"][index] for index in generator.permutation(len(splits["train"]))]
        for tokens, targets in windows(texts):
            optimiser.zero_grad()
            logits, state = module(tokens, state)
            error = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            error.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            state = tuple(part.detach() for part in state)
        with torch.no_grad():
            state, losses = None, []
            for tokens, targets in windows(splits["validation"]):
                logits, state = module(tokens, state)
                losses.append(float(F.cross_entropy(logits.flatten(0, 1), targets.flatten())))
            loss = statistics.fmean(losses)
    return time.process_time() - begun, loss


def images_of(folder: Path, store: str, reference: str) -> tuple[DirectoryStore, Manifest]:
    """A published corpus, or one of the digits if there is no name."""
    if reference:
        return DirectoryStore(Path(store)), stoker.version(store, reference).manifest
    directory, digits = DirectoryStore(folder / "digits"), corpora.digits()
    splits = {"train": digits[:1500], "validation": digits[1500:]}
    return directory, corpora.version(directory, folder, splits, corpus="digits")


def lenet(folder: Path, rounds: int, epochs: int, *, corpus: str, path: str) -> dict[str, Any]:
    store, manifest = images_of(folder, path, corpus)
    options = LENET | {"epochs": epochs}
    bare: Callable[[], float] = lambda: bare_lenet(store, manifest, options, folder)  # noqa: E731
    ours: Callable[[], float] = lambda: trained(store, manifest, "cnn", options, folder)[0]  # noqa: E731
    pairs = []
    bare(), ours()  # warm
    for number in range(rounds):
        if number % 2:
            pairs.append((bare(), ours()))
        else:
            own = ours()
            pairs.append((bare(), own))
    ratios = [own / other for other, own in pairs]
    return {"what": "lenet", "ratio": statistics.median(ratios), "ratios": ratios, "seconds": pairs}


def splits_of(store: str, reference: str) -> dict[str, list[Sample]]:
    """The texts of a published corpus, or those of Python's documentation if there is no name."""
    if not reference:
        texts = list(corpora.texts())
        return {"train": texts[:-12], "validation": texts[-12:]}
    version = stoker.version(store, reference)
    return {name: list(version.split(name)) for name in ("train", "validation")}


def lstm(folder: Path, rounds: int, epochs: int, *, corpus: str, path: str) -> dict[str, Any]:
    splits = splits_of(path, corpus)
    store = DirectoryStore(folder / "texts")
    manifest = corpora.version(store, folder, splits, corpus="texts")
    ratios, losses = [], []
    plain_lstm(splits, 1, 0)  # warm
    for seed in range(rounds):
        options = LSTM | {"epochs": epochs, "seed": seed}
        if seed % 2:
            seconds, loss = plain_lstm(splits, epochs, seed)
        own, metrics = trained(store, manifest, "lstm", options, folder)
        if not seed % 2:
            seconds, loss = plain_lstm(splits, epochs, seed)
        ratios.append(own / seconds)
        losses.append(metrics["loss"] / loss)
    return {
        "what": "lstm",
        "ratio": statistics.median(ratios),
        "loss": statistics.median(losses),
        "ratios": ratios,
        "losses": losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", choices=["lenet", "lstm"])
    parser.add_argument("--images", default="", metavar="CORPUS[@V]")
    parser.add_argument("--texts", default="", metavar="CORPUS[@V]")
    parser.add_argument("--store", default=".stoker/store", metavar="DIR")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measures: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
        "lenet": partial(lenet, corpus=arguments.images, path=arguments.store),
        "lstm": partial(lstm, path=arguments.store, corpus=arguments.texts),
    }
    for name, measure in measures.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(measure(Path(folder), arguments.rounds, arguments.epochs)), flush=True)


if __name__ == "__main__":
    main()
