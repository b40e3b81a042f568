"""The digest of a row's code: it covers what reads the samples, too."""

from pathlib import Path

import pytest

from stoker.training.studies import code

TRAINING = Path(code.__file__).parent.parent


@pytest.mark.parametrize("method", ["shallow", "ngram", "cnn", "lstm"])
def test_code_that_reads_the_samples_belongs_to_the_digest(method: str) -> None:
    covered = {path for pattern in code._FILES[method] for path in TRAINING.glob(pattern)}
    for name in ("stream/stream.py", "pictures/pictures.py", "studies/plan.py", "studies/data.py"):
        assert TRAINING / name in covered
    assert code.code_of(method) == code.code_of(method)


def test_a_changed_file_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stream").mkdir()
    file = tmp_path / "stream" / "stream.py"
    monkeypatch.setattr(code, "_TRAINING", tmp_path)
    digests = set()
    for text in ("one", "two"):
        file.write_text(text)
        code.code_of.cache_clear()
        digests.add(code.code_of("ngram"))
    code.code_of.cache_clear()
    assert len(digests) == 2
