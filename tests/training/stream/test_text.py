"""Windows of text that go on where the last ones ended."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.stream.order import EpochOrder
from stoker.training.stream.text import BOUNDARY, TextStream, Tokens, text_of
from stoker.training.stream.tokens import IGNORED
from tests.conftest import HANGS_S
from tests.training import corpora
from tests.training.conftest import Small


def stream(small: Small, **options: Any) -> TextStream:
    return TextStream(small.store, small.manifest, cache=small.cache, **options)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 9), window=st.integers(1, 10), shuffle=st.booleans())
def test_each_row_goes_on_where_it_ended_and_targets_are_one_place_further(
    letters: Small, batch_size: int, window: int, shuffle: bool
) -> None:
    made = stream(letters, batch_size=batch_size, window=window, shuffle=shuffle)
    batches = list(made)
    rows = np.concatenate([tokens.numpy() for tokens, _ in batches], axis=1)
    targets = np.concatenate([targets.numpy() for _, targets in batches], axis=1)
    assert (rows[:, 1:] == targets[:, :-1]).all()
    lane = made.tokens // batch_size
    assert lane - window <= rows.shape[1] < lane
    assert rows.shape[0] == batch_size


def test_every_document_is_there_behind_a_boundary(letters: Small) -> None:
    tokens = np.concatenate(
        [tokens.numpy() for tokens, _ in stream(letters, batch_size=1, window=1, shuffle=False)], axis=1
    )
    whole = tokens[0].tolist()
    assert whole[:8] == [BOUNDARY, 97, 97, 97, BOUNDARY, 98, 98, 98]
    assert len(whole) == 26 * 4 - 1


def test_ranks_share_the_rows_and_a_stop_loses_nothing(letters: Small) -> None:
    whole = [tokens for tokens, _ in stream(letters, batch_size=4, window=5)]
    shares = [
        [tokens for tokens, _ in stream(letters, batch_size=4, window=5, rank=rank, world_size=3)] for rank in range(3)
    ]
    for number, tokens in enumerate(whole):
        assert np.array_equal(np.concatenate([share[number] for share in shares]), tokens)
    first = stream(letters, batch_size=4, window=5)
    had = [tokens for (tokens, _), _ in zip(first, range(2), strict=False)]
    second = stream(letters, batch_size=4, window=5)
    state = first.state_dict()
    second.load_state_dict(state | {"delivered": len(had) * 4})
    assert all(np.array_equal(one, other) for one, other in zip(had + [t for t, _ in second], whole, strict=True))


def test_too_little_text_and_no_text_are_told(letters: Small, digits: Small) -> None:
    with pytest.raises(TrainingError, match="104 tokens, fewer than batch_size 64"):
        stream(letters, batch_size=64)
    with pytest.raises(TrainingError, match="without a field 'txt'"):
        stream(digits)


def test_tokens_become_text_whatever_they_are() -> None:
    assert text_of([0xC3, 0xA9, 0xFF]) == "é\ufffd"


DOCUMENTS = [bytes([65 + number % 50]) * (number * 7 % 23) for number in range(40)]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """40 documents of 0 to 22 bytes in shards of 3, some of them empty."""
    folder: Path = tmp_path_factory.mktemp("documents")
    store = MemoryStore()
    samples = [Sample(f"d{number:02d}", {"txt": text}) for number, text in enumerate(DOCUMENTS)]
    return Small(store, corpora.version(store, folder, {"train": samples}, per_shard=3), folder)


def naive(seed: int, epoch: int, shuffle: bool) -> list[int]:
    """The epoch's text as a list, made of the order and of nothing else."""
    counts = [min(3, 40 - start) for start in range(0, 40, 3)]
    shards, rows = EpochOrder(counts, seed, epoch, shuffle=shuffle).locate(0, 40)
    numbers = [3 * shard + row for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)]
    return [token for number in numbers for token in (BOUNDARY, *DOCUMENTS[number])]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 9),
    window=st.integers(1, 30),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 2),
    shuffle=st.booleans(),
    worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    workers=st.integers(0, 2),
    stop=st.integers(0, 12),
    last=st.sampled_from(["drop", "pad"]),
)
def test_windows_are_those_of_the_epochs_text_for_any_ranks_threads_and_restarts(
    documents: Small,
    batch_size: int,
    window: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    worlds: tuple[int, int],
    workers: int,
    stop: int,
    last: Literal["drop", "pad"],
) -> None:
    text = naive(seed, epoch, shuffle)
    lane = len(text) // batch_size if last == "drop" else -(-len(text) // batch_size)
    count = (lane - 1) // window if last == "drop" else -(-lane // window)
    stop = min(stop, count)
    found: list[list[Any]] = []
    state: dict[str, Any] | None = None
    for world, batches in ((worlds[0], stop), (worlds[1], count - stop)):
        world = min(world, batch_size)
        parts: list[list[Any]] = [[] for _ in range(batches)]
        for rank in range(world):
            made = stream(
                documents,
                batch_size=batch_size,
                window=window,
                seed=seed,
                shuffle=shuffle,
                rank=rank,
                world_size=world,
                last=last,
            )
            made.epoch = epoch
            if state is not None:
                made.load_state_dict(state)
            loader = Loader(made, workers=workers)
            for number, pair in enumerate(itertools.islice(loader, batches) if batches else ()):
                parts[number] += zip(pair[0].tolist(), pair[1].tolist(), strict=True)
            loader.close()
        state = made.state_dict()
        found += parts
    assert len(found) == count
    for number, rows in enumerate(found):
        assert len(rows) == batch_size
        for row, (tokens, targets) in enumerate(rows):
            begin = row * lane + number * window
            if last == "drop":
                assert tokens == text[begin : begin + window]
                assert targets == text[begin + 1 : begin + window + 1]
            else:
                stops = min(begin + window, (row + 1) * lane, len(text) - 1)
                real = max(0, stops - begin)
                assert tokens[:real] == text[begin : begin + real]
                assert targets[:real] == text[begin + 1 : begin + real + 1]
                assert targets[real:] == [IGNORED] * (window - real)


@given(batch_size=st.integers(1, 9), window=st.integers(1, 30))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_padding_every_token_but_the_first_is_a_target_once(
    documents: Small, batch_size: int, window: int
) -> None:
    targets = np.concatenate(
        [targets.numpy().ravel() for _, targets in stream(documents, batch_size=batch_size, window=window, last="pad")]
    )
    assert sorted(targets[targets != IGNORED].tolist()) == sorted(naive(0, 0, True)[1:])


@pytest.mark.parametrize(("width", "kind"), [(2, "<u2"), (4, "<u4")])
def test_ready_ids_of_any_tokenizer_are_read_as_they_are(tmp_path: Path, width: int, kind: str) -> None:
    ids = [np.arange(number * 3, dtype=kind) + 1000 * number for number in range(20)]
    samples = [Sample(f"d{number:02d}", {"ids": one.tobytes()}) for number, one in enumerate(ids)]
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": samples}, per_shard=6)
    tokens = Tokens("ids", width=width, vocabulary=50_000, boundary=49_999)
    made = TextStream(
        store, manifest, batch_size=1, window=1, shuffle=False, cache=tmp_path / "cache", tokens_in=tokens, last="pad"
    )
    whole = [49_999] + [int(targets) for _, targets in made if int(targets) != IGNORED]
    assert whole == [token for one in ids for token in (49_999, *one.tolist())]
    corpora.version(store, tmp_path, {"train": [Sample("x", {"ids": b"12345"})]}, corpus="odd")
    with pytest.raises(TrainingError, match=f"not made of tokens of {width} bytes"):
        TextStream(store, "odd@1", tokens_in=tokens, cache=tmp_path / "cache")


_MEASURED = """
import json, sys, tracemalloc
from pathlib import Path
from stoker.storage import open_store
from stoker.storage.shards.sample import Sample
from stoker.training import TextStream
from tests.training import corpora
folder = Path(sys.argv[1])
store = open_store(str(folder / "store"))
samples = (Sample(f"d{n:06d}", {"txt": b"word " * 500}) for n in range(20_000))
manifest = corpora.version(store, folder, {"train": samples}, per_shard=400)
tracemalloc.start()
stream = TextStream(store, manifest, batch_size=8, window=256, cache=folder / "cache")
for number, batch in zip(range(100), stream):
    pass
state = stream.state_dict() | {"delivered": 8 * 20_000}
stream.load_state_dict(state)
stream.batch(0, stream.delivered)
print(json.dumps([tracemalloc.get_traced_memory()[1], stream.tokens]))
"""


@pytest.mark.slow
def test_memory_is_not_that_of_an_epochs_tokens(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, tokens = json.loads(done.stdout)
    assert tokens == 20_000 * 2501
    assert peak < 12e6 < tokens
