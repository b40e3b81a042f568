"""W&B without a network: its own files have the metrics of a run, also of one that was resumed."""

from pathlib import Path

import pytest

wandb = pytest.importorskip("wandb")

from tests.training.conftest import Small  # noqa: E402  # where wandb is
from tests.training.run.small_runs import CNN, after, run  # noqa: E402


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def test_a_run_and_what_resumes_it_are_one_entry_with_all_metrics(digits: Small) -> None:
    options = CNN | {"loggers": "wandb"}
    first = run(digits, "cnn", options, stop=after(12))
    known = (first.folder / "wandb-id").read_text()
    run(digits, "cnn", options, resume=True)
    assert (first.folder / "wandb-id").read_text() == known
    files = sorted((first.folder / "wandb").glob(f"offline-run-*-{known}/run-{known}.wandb"))
    assert len(files) in (1, 2)  # two begun in the same second share a folder
    written = b"".join(file.read_bytes() for file in files)
    for name in (b"train/loss", b"evaluate/accuracy", b"learning_rate", b"small@1"):
        assert name in written
