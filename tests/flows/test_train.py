"""`stoker train` through the real command line."""

import importlib.util
import os
import signal

import pytest

from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]
SMALL = ("--epochs", "2", "--batch-size", "2", "--set", "hidden=8", "--set", "sample_length=20", "--device", "cpu")


@pytest.fixture
def texts(served: Cli) -> Cli:
    """A folder with a corpus `words` of some short texts."""
    done = served("ingest", served.recipe([f"word-{number}" for number in range(120)], more="[shards]\nsamples = 50\n"))
    assert done.returncode == 0, done.stderr
    return served


def test_a_model_is_trained_and_what_it_came_to_is_in_prefects_ui(texts: Cli, prefect_url: str) -> None:
    done = texts("train", "lstm", "words", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lstm-0001: lstm on words@1, ")
    assert "Traceback" not in done.stderr
    found = {one["key"]: one for one in ask(prefect_url, "/artifacts/latest/filter")}
    assert found["words-lstm-progress"]["data"] == 100.0
    assert "option hidden" in found["words-lstm-trained"]["data"]


def test_a_wrong_model_or_option_is_one_line_and_nothing_is_started(texts: Cli) -> None:
    for words, code, expected in (
        (("lstn", "words"), 2, "no model is called 'lstn'; did you mean 'lstm'?"),
        (("lstm", "wrods"), 1, "did you mean 'words'?"),
        (("lstm", "words", "--set", "hiden=3"), 2, "did you mean 'hidden'?"),
        (("lstm", "words", "--epochs", "many"), 2, "epochs"),
    ):
        done = texts("train", *words)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
        assert expected in done.stderr
    assert texts("train", "lstm", "words", "--epoch", "3").returncode == 2
    assert texts("train", "lstm", "words", "--set", "hidden").returncode == 2


def test_training_that_was_stopped_goes_on_with_resume(texts: Cli) -> None:
    words = ("train", "lstm", "words", "--epochs", "30", *SMALL[2:])
    process = texts.start(*words)
    assert process.stderr is not None
    while "step " not in (line := process.stderr.readline()):  # the first evaluation
        assert line, "it ended by itself"
    os.kill(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=HANGS_S)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command with --resume goes on"
    done = texts(*words, "--resume", timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lstm-0001: ")
    assert "lstm-0001: goes on at step " in done.stderr
