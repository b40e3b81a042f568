"""Plain nets of 1,000 layers learn scikit-learn's digits on one core, if their initial weights allow it."""

from pathlib import Path

import pytest

from tests.training.networks.deep_runs import accuracy

PLAIN = {"net": "plain", "depth": 1002, "norm": "none"}  # 1,001 convolutions
ISOMETRY = {"activation": "tanh", "initialisation": "delta_orthogonal", "learning_rate": 0.01}


@pytest.mark.slow
def test_1001_plain_layers_learn_by_delta_orthogonal_weights(tmp_path: Path) -> None:
    assert accuracy(tmp_path, PLAIN | ISOMETRY | {"epochs": 4}) >= 0.88


@pytest.mark.slow
def test_1001_plain_layers_learn_nothing_by_those_of_he(tmp_path: Path) -> None:
    he = {"activation": "relu", "initialisation": "he", "learning_rate": 0.02, "max_steps": 10}
    assert accuracy(tmp_path, PLAIN | he) < 0.2


@pytest.mark.nightly
def test_10000_plain_layers_learn_by_delta_orthogonal_weights(tmp_path: Path) -> None:
    deep = PLAIN | ISOMETRY | {"depth": 10_001, "width": 8, "learning_rate": 0.003, "epochs": 2}
    assert accuracy(tmp_path, deep) > 0.5
