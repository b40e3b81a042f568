"""A run is found by its name, or that of its model, and its checkpoint read."""

import json
from dataclasses import asdict

import pytest
import torch

from stoker.training.errors import TrainingError
from stoker.training.results.checkpoints import best_of, infos
from stoker.training.run import checkpoint as checkpoints
from stoker.training.trained.load import find_run, load_trained
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, equal, run, weights


def test_a_run_is_found_by_its_name_and_by_that_of_its_model(digits: Small) -> None:
    for _ in range(2):
        run(digits, "cnn", CNN | {"epochs": 1})
    store = digits.store
    assert find_run(store, "cnn-0001") == find_run(store, "small/cnn-0001") == ("small", "cnn-0001")
    assert find_run(store, "cnn") == find_run(store, "small/cnn", near="other") == ("small", "cnn-0002")


def test_a_name_that_two_corpora_have_is_asked_for_unless_one_is_near(digits: Small) -> None:
    splits = {"train": corpora.digits()[:40], "validation": corpora.digits()[40:60]}
    other = Small(digits.store, corpora.version(digits.store, digits.folder, splits, corpus="other"), digits.folder)
    for one in (digits, other):
        run(one, "cnn", CNN | {"epochs": 1})
    with pytest.raises(TrainingError, match="is in 2 corpora; say which: other/cnn-0001, small/cnn-0001"):
        find_run(digits.store, "cnn-0001")
    assert find_run(digits.store, "cnn-0001", near="other") == ("other", "cnn-0001")
    assert find_run(digits.store, "small/cnn", near="other") == ("small", "cnn-0001")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn-0002", "did you mean 'cnn-0001'"),
        ("smal/cnn-0001", "did you mean 'small/cnn-0001'"),
        ("../small/cnn-0001", "did you mean 'small/cnn-0001'"),
        ("", "there are: small/cnn-0001"),
        ("xyz", "there are: small/cnn-0001"),
    ],
)
def test_a_name_that_no_run_has_is_refused_with_the_nearest(digits: Small, name: str, message: str) -> None:
    run(digits, "cnn", CNN | {"epochs": 1})
    with pytest.raises(TrainingError, match=message):
        find_run(digits.store, name)


def test_a_store_without_runs_says_what_makes_one(digits: Small) -> None:
    with pytest.raises(TrainingError, match="there is none yet; `stoker train` makes one"):
        find_run(digits.store, "cnn")


def test_the_best_checkpoint_is_read_or_the_last_and_a_damaged_one_is_passed_over(digits: Small) -> None:
    # Learning as fast as this the score rises and falls.
    name = run(digits, "cnn", CNN | {"epochs": 4, "learning_rate": 0.3, "schedule": "constant", "keep": 4}).run
    found = list(infos(digits.store, "small", name))
    best = best_of(found)
    assert best is not None
    last = load_trained(digits.store, name, checkpoint="last", device="cpu")
    assert (last.info.step, last.info.done) == (found[0].step, True)
    assert equal(dict(last.module.state_dict()), weights(digits, name))
    assert not last.module.training
    chosen = load_trained(digits.store, name, device="cpu")
    assert (chosen.info.step, chosen.info.metrics) == (best.step, best.metrics)
    state = checkpoints.load(digits.store, best)
    assert state is not None
    assert equal(dict(chosen.module.state_dict()), state["module"])
    digits.store.write(best.key, b"other bytes")
    remaining = next(info for info in found if info.step != best.step)
    assert load_trained(digits.store, name, device="cpu").info.step == remaining.step


def test_loading_leaves_torchs_random_numbers_alone(handbook: Small) -> None:
    name = run(handbook, "lstm", LSTM).run
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_trained(handbook.store, name, device="cpu")
    assert torch.equal(torch.rand(1), expected)


def test_weights_that_do_not_fit_what_the_model_builds_now_are_told_in_one_line(digits: Small) -> None:
    name = run(digits, "cnn", CNN | {"epochs": 1}).run
    for info in infos(digits.store, "small", name):
        other = asdict(info) | {"identity": {**info.identity, "options": {**info.identity["options"], "width": 5}}}
        digits.store.write(f"small/runs/{name}/{info.step:09d}.json", json.dumps(other).encode())
    with pytest.raises(
        TrainingError, match=f"small/{name}: its checkpoint does not fit what model cnn builds now"
    ) as caught:
        load_trained(digits.store, name, device="cpu")
    assert "\n" not in str(caught.value)
