"""Options of a wrong type are told by name, in one line, before anything is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.testing import sample_corpus
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.stream.documents import DocumentStream
from stoker.training.stream.mixing import MixedStream
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream

STORE, MANIFEST = sample_corpus(12)
COMMON: list[tuple[dict[str, Any], str]] = [
    ({"seed": "a"}, "seed = 'a'; expected a whole number"),
    ({"seed": None}, "seed = None; expected a whole number"),
    ({"batch_size": 4.0}, "batch_size = 4.0; expected a whole number"),
    ({"batch_size": True}, "batch_size = True; expected a whole number"),
    ({"rank": "0"}, "rank = '0'; expected a whole number"),
]
BATCHES: list[tuple[dict[str, Any], str]] = [
    *COMMON,
    ({"last": "keep"}, "last = 'keep'; expected 'short' or 'drop' or 'pad'"),
    ({"on_corrupt": True}, "on_corrupt = True; expected 'stop' or 'skip' or 'skip_samples'"),
    ({"fields": "txt"}, "fields = 'txt'; expected a list of texts or None"),
    ({"fields": [1]}, "fields = [1]; expected a list of texts or None"),
    ({"decode": "png"}, "decode = 'png'; expected a function or None"),
    ({"skip_budget": "5"}, "skip_budget = '5'; expected a whole number"),
]
SHARDS: list[tuple[dict[str, Any], str]] = [
    *BATCHES,
    ({"split": None}, "split = None; expected a text"),
    ({"shuffle": "no"}, "shuffle = 'no'; expected True or False"),
    ({"window": "8"}, "window = '8'; expected a whole number"),
    ({"cache": 3}, "cache = 3; expected a Path or a text or None"),
    ({"store": "s3://corpora"}, "store = 's3://corpora'; expected a store: open_store(url)"),
    ({"version": 1}, "version = 1; expected a Manifest or a text"),
]


def shard_stream(*, store: Any = STORE, version: Any = MANIFEST, **options: Any) -> ShardStream:  # Any: also wrong ones
    return ShardStream(store, version, **options)


@pytest.mark.parametrize(("options", "message"), SHARDS, ids=lambda value: str(value)[:40])
def test_of_a_shard_stream(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        shard_stream(**options)
    assert str(caught.value) == f"ShardStream: {message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *BATCHES,
        ({"temperature": "1"}, "temperature = '1'; expected a number"),
        ({"exhaustion": "last"}, "exhaustion = 'last'; expected 'first' or 'all' or 'drop'"),
        ({"weights": [1]}, "weights = [1]; expected a dictionary of numbers or None"),
        ({"weights": {"a": "1"}}, "weights = {'a': '1'}; expected a dictionary of numbers or None"),
        ({"streams": {"a": "digits"}}, "streams = {'a': 'digits'}; expected a dictionary of ShardStreams"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_of_a_mixed_stream(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        MixedStream(**({"streams": {"a": ShardStream(STORE, MANIFEST)}} | options))
    assert str(caught.value) == f"MixedStream: {message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *COMMON,
        ({"window": "4"}, "window = '4'; expected a whole number"),
        ({"last": "short"}, "last = 'short'; expected 'drop' or 'pad'"),
        ({"tokens_in": "txt"}, "tokens_in = 'txt'; expected a Tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_of_a_text_stream(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        TextStream(STORE, MANIFEST, **options)
    assert str(caught.value) == f"TextStream: {message}"


def test_of_a_document_stream() -> None:
    with pytest.raises(TrainingError, match="DocumentStream: bucket = '2'; expected a whole number"):
        DocumentStream(STORE, MANIFEST, bucket="2")  # type: ignore[arg-type]  # that it is wrong is what is tested


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "2"}, "workers = '2'; expected a whole number"),
        ({"ahead": 1.5}, "ahead = 1.5; expected a whole number"),
        ({"kind": "thread"}, "kind = 'thread'; expected 'threads' or 'processes'"),
        ({"pin_memory": 1}, "pin_memory = 1; expected True or False"),
        ({"stream": [1, 2]}, "stream = [1, 2]; expected a Stream"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_of_a_loader(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        Loader(**({"stream": ShardStream(STORE, MANIFEST)} | options))
    assert str(caught.value) == f"Loader: {message}"


def test_numbers_of_numpy_sets_of_names_and_folders_as_text_are_right(tmp_path: Path) -> None:
    stream = ShardStream(
        STORE,
        MANIFEST,
        batch_size=np.int64(4),  # type: ignore[arg-type]  # what a configuration may hold
        shuffle=np.False_,  # type: ignore[arg-type]  # likewise
        fields={"txt"},  # type: ignore[arg-type]  # likewise
        cache=str(tmp_path / "cache"),
    )
    assert [len(batch) for batch in stream] == [4, 4, 4]
    assert (tmp_path / "cache").is_dir()
    stream.close()
