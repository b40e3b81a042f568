"""Networks are trained on data in memory: reproducibly, with their curve, gradients and sizes."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stoker.training.studies.data import Images, Texts
from stoker.training.studies.networks import measure_network
from stoker.training.studies.plan import Row
from stoker.training.studies.threads import one_thread
from tests.training import corpora

PROC = Path("/proc/self")


@pytest.fixture(scope="module")
def digits() -> Images:
    found = load_digits()
    images = (found.images * 15).astype(np.uint8).repeat(4, 1).repeat(4, 2)[..., None]
    schema = {"classes": [str(digit) for digit in range(10)], "grey": True, "mean": [0.3], "deviation": [0.35]}
    return Images(images[:600], found.target[:600], images[600:900], found.target[600:900], schema)


def net(steps: int = 60, **options: object) -> Row:
    options = {"net": "mlp", "norm": "none", "depth": 3, "width": 32, "pixels": 8, "shift": 0, **options}
    training = {"max_steps": steps, "batch_size": 32, "learning_rate": 0.01}
    return Row("net", "cnn", options, training)


def test_a_network_learns_digits_and_tells_its_sizes(digits: Images) -> None:
    with one_thread():
        run = measure_network(net(), digits, seed=0)
    assert run["score"] > 0.7
    assert run["parameters"] == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    assert run["multiplications"] == 64 * 32 + 32 * 32 + 32 * 10
    assert len(run["gradients"]) == 3
    assert run["curve"][0][1] > run["curve"][-1][1]
    assert run["cpu_s"] > 0


def test_the_same_seed_gives_the_same_run_and_another_one_another(digits: Images) -> None:
    with one_thread():
        first, same, other = (measure_network(net(20), digits, seed=seed) for seed in (3, 3, 4))
    assert (first["curve"], first["score"]) == (same["curve"], same["score"])
    assert first["curve"] != other["curve"]


@pytest.mark.parametrize("options", [{"pretrain": "rbm", "activation": "sigmoid", "pretrain_epochs": 2}])
def test_weights_are_prepared_before_the_first_step(digits: Images, options: dict[str, object]) -> None:
    with one_thread():
        prepared = measure_network(net(2, **options), digits, seed=0)
        drawn = measure_network(net(2, **options | {"pretrain": "none"}), digits, seed=0)
    assert prepared["gradients"] != drawn["gradients"]


def test_what_diverges_is_ended_and_says_so(digits: Images) -> None:
    row = net(200, activation="relu")
    row = Row("net", "cnn", row.options, {**row.training, "optimiser": "sgd", "learning_rate": 1e9, "clip": 0})
    with one_thread():
        run = measure_network(row, digits, seed=0)
    assert run["note"].startswith("diverged by step")
    assert run["curve"][-1][1] is None
    assert 0 <= run["score"] <= 1


def test_a_text_goes_on_from_batch_to_batch_and_is_told_in_fewer_bits() -> None:
    tokens = np.frombuffer(b"".join(sample.fields["txt"] for sample in corpora.texts()), np.uint8).astype(np.int64)
    row = Row("LSTM", "lstm", {"hidden": 32, "window": 32}, {"max_steps": 60, "batch_size": 16, "learning_rate": 0.02})
    with one_thread():
        run = measure_network(row, Texts(tokens[:60_000], tokens[60_000:70_000], {"vocabulary": 257}), seed=0)
    assert run["score"] < 4.5  # of eight bits
    assert run["multiplications"] == 0  # not known


@pytest.mark.skipif(not (PROC / "clear_refs").exists(), reason="no /proc to read the memory of this process from")
def test_more_steps_take_no_more_memory() -> None:
    tokens = np.random.default_rng(0).integers(0, 257, 60_000)
    texts = Texts(tokens, tokens[:10_000], {"vocabulary": 257})

    def peak_kb(steps: int) -> int:
        (PROC / "clear_refs").write_text("5")  # the peak is that of now
        training = {"max_steps": steps, "batch_size": 32, "learning_rate": 0.01}
        with one_thread():
            measure_network(Row("LSTM", "lstm", {"hidden": 32, "window": 64}, training), texts, seed=0)
        (line,) = (line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1])

    few = peak_kb(20)
    assert peak_kb(120) < few + 30_000  # the logits of one step are 2,000 kB
