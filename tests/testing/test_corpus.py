import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from stoker.storage.verification.verify import verify
from stoker.testing import sample_corpus
from stoker.training import ShardStream


def test_the_sample_corpus_is_the_same_each_time_and_intact() -> None:
    (store, manifest), (_, again) = sample_corpus(250), sample_corpus(250)
    assert manifest == again
    assert [shard.samples for shard in manifest.shards] == [100, 100, 50]
    assert not verify(store, manifest).problems


def test_none_of_its_modules_needs_pytest_torch_or_pillow() -> None:
    code = (
        "import sys; from stoker.testing import sample_corpus; sample_corpus();"
        "print([name for name in ('pytest', 'torch', 'PIL', 'prefect') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(("kind", "field", "first"), [("texts", "txt", b"0"), ("images", "png", b"\x89PNG")])
def test_the_sample_corpus_can_be_streamed(
    kind: Literal["texts", "images"], field: str, first: bytes, tmp_path: Path
) -> None:
    store, manifest = sample_corpus(12, kind=kind)
    stream = ShardStream(store, manifest, batch_size=5, shuffle=False, cache=tmp_path)
    samples = [sample for batch in stream for sample in batch]
    assert [sample.key for sample in samples] == [f"n{number:04d}" for number in range(12)]
    assert [sample.record["label"] for sample in samples] == ["0", "1", "2", "3"] * 3
    assert samples[0].fields[field].startswith(first)


def test_no_samples_and_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        sample_corpus(0)
    with pytest.raises(ValueError, match="'sounds'"):
        sample_corpus(kind="sounds")  # type: ignore[arg-type]  # that is the test
