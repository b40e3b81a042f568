"""`stoker train` through the real command line."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

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


@pytest.fixture
def pictures(served: Cli) -> Cli:
    """A folder with a corpus `shots` of tars that webdataset wrote; 5 of its 200 PNGs do not decode."""
    webdataset = pytest.importorskip("webdataset")
    (served.folder / "shots").mkdir()
    for number in range(4):
        with webdataset.TarWriter(str(served.folder / "shots" / f"{number}.tar")) as writer:
            for place in range(50):
                shade = 60 if place % 2 else 190
                file = io.BytesIO()
                Image.effect_noise((16, 16), 30).point(lambda value, shade=shade: (value + shade) // 2).save(
                    file, "PNG"
                )
                broken = place == 7 or (number, place) == (0, 8)
                png = file.getvalue()[: 60 if broken else None]
                writer.write({"__key__": f"{number}-{place:02}", "png": png, "cls": place % 2})
    done = served("index", "shots")
    assert done.returncode == 0, done.stderr
    return served


SHOTS = (
    "cnn",
    "shots",
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--set",
    "width=2",
    "--set",
    "pixels=16",
    "--device",
    "cpu",
)


def test_a_share_is_held_out_of_external_tars_and_stays_the_same_when_the_run_goes_on(pictures: Cli) -> None:
    process = pictures.start("train", *SHOTS, "--epochs", "12", "--hold-out", "20%")
    assert process.stderr is not None
    while "step " not in (line := process.stderr.readline()):
        assert line, "it ended by itself"
    os.kill(process.pid, signal.SIGINT)
    assert (process.communicate(timeout=HANGS_S), process.returncode)[1] == 130
    # The same share written in another way is the same run.
    resumed = pictures("train", *SHOTS, "--epochs", "12", "--hold-out", "0.2", "--resume", "--json")
    fresh = pictures("train", *SHOTS, "--hold-out", "20%", "--json")
    again = pictures("train", *SHOTS, "--hold-out", "20%", "--resume", "--json")
    assert "cnn-0001: goes on at step " in resumed.stderr
    results = [json.loads(done.stdout) for done in (resumed, fresh, again)]
    assert [result["run"] for result in results] == ["cnn-0001", "cnn-0002", "cnn-0002"]
    assert len({result["held_out"] for result in results}) == 1
    assert 20 <= results[0]["held_out"] <= 60
    lost = [sorted(key for entry in result["left_out"] for key in entry["keys"]) for result in results]
    assert lost == [["0-07", "0-08", "1-07", "2-07", "3-07"]] * 3


def test_a_resume_with_other_options_names_the_nearest_run_and_what_differs(pictures: Cli) -> None:
    assert pictures("train", *SHOTS, "--hold-out", "20%", "--set", "seed=3").returncode == 0
    done = pictures("train", *SHOTS, "--hold-out", "30%", "--set", "seed=4", "--resume")
    assert done.returncode == 0, done.stderr
    line = "cnn-0002 begins: the nearest run, cnn-0001, has hold_out = 0.2 (now 0.3), seed = 3 (now 4)"
    assert line in done.stderr.splitlines()
    assert done.stdout.startswith("cnn-0002: cnn on shots@1, ")


def test_broken_images_of_external_tars_are_left_out_and_told_or_end_the_run(pictures: Cli) -> None:
    done = pictures("train", *SHOTS, "--hold-out", "20%")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cnn-0001: cnn on shots@1, ")
    told = "".join(line for line in done.stderr.splitlines() if line.startswith("left out of "))
    assert all(told.count(key) == 1 for key in ("0-07", "0-08", "1-07", "2-07", "3-07"))
    refused = pictures("train", *SHOTS, "--hold-out", "20%", "--set", "skip_budget=0")
    assert (refused.returncode, refused.stdout) == (1, "")
    lines = [line for line in refused.stderr.splitlines() if line.startswith("stoker: ")]
    assert len(lines) == 1
    assert "skip_budget" in lines[0]
    assert "Traceback" not in refused.stderr


def torchrun(cli: Cli, *words: str) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node 2 -m stoker ...`."""
    ranks = ("--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *ranks, "-m", "stoker", *words],
        cwd=cli.folder,
        env=cli.environment() | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_ranks_train_by_the_command_line_and_one_goes_on_with_what_they_saved(texts: Cli) -> None:
    process = torchrun(texts, "train", "lstm", "words", *SMALL)
    stdout, stderr = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, stderr
    (line,) = stdout.splitlines()[:1]
    assert line.startswith("lstm-0001: lstm on words@1, ")
    assert stdout.count("lstm-0001: ") == 1  # rank 0 alone reports
    assert "deterministic, on 2 ranks" in stderr
    more = texts("train", "lstm", "words", "--epochs", "3", *SMALL[2:], "--resume", timeout=HANGS_S)
    assert more.returncode == 0, more.stderr
    assert "lstm-0001: goes on at step " in more.stderr


def test_ranks_that_are_asked_to_stop_save_together(texts: Cli) -> None:
    words = ("train", "lstm", "words", "--epochs", "30", *SMALL[2:])
    process = torchrun(texts, *words)
    assert process.stderr is not None
    while "step " not in (line := process.stderr.readline()):
        assert line, "it ended by itself"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stderr = process.communicate(timeout=HANGS_S)[1]
    assert "stoker: interrupted; the same command with --resume goes on" in stderr
    done = texts(*words, "--resume", timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert "lstm-0001: goes on at step " in done.stderr
