"""Wrong options and unfit corpora are refused, with what was found and what to do."""

from typing import Any

import pytest

from stoker.training.errors import TrainingError
from stoker.training.run.options import ADDED, parse_options, run_identity
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("cmn", {}, "no model is called 'cmn'; did you mean 'cnn'?"),
        ("cnn", {"epoch": 3}, "no.* option 'epoch'; did you mean 'epochs'?"),
        ("cnn", {"epochs": "many"}, "epochs = 'many'; expected a whole number"),
        ("cnn", {"epochs": 0}, "epochs = 0; expected 1 or more"),
        ("cnn", {"net": "vgg"}, "net = 'vgg'; expected one of: lenet1989, lenet5,"),
        ("cnn", {"device": "gpu7"}, "device 'gpu7': .* there are: "),
        ("cnn", {"split": "test"}, "no samples in split 'test'"),
        ("cnn", {"eval_split": "train"}, "split 'train' cannot be trained on and evaluated on; .*--hold-out 10%"),
        ("cnn", {"eval_split": "10%"}, "no split '10%' to evaluate on; it has: train, validation. .*--hold-out 10%"),
        ("cnn", {"hold_out": "10"}, r"hold_out '10': expected a share above 0 and below 1, such as 10% or 0.1"),
        ("cnn", {"hold_out": "10%", "eval_split": "validation"}, "both say what to evaluate on; set one of them"),
        ("lstm", {}, "without a field 'txt'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_do(
    digits: Small, model: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        run(digits, model, values)


def test_a_classifier_refuses_a_corpus_without_labels(handbook: Small) -> None:
    with pytest.raises(TrainingError, match="both an image and a label, and a classifier needs them"):
        run(handbook, "cnn", CNN)


def test_the_old_name_of_the_split_to_evaluate_on_still_works(digits: Small) -> None:
    with pytest.warns(DeprecationWarning, match="held_out is now called eval_split"):
        result = run(digits, "cnn", {**CNN, "max_steps": 1, "held_out": "validation"})
    assert result.metrics["split"] == "validation"
    with pytest.raises(TrainingError, match="held_out is the old name of eval_split; give eval_split alone"):
        run(digits, "cnn", {**CNN, "held_out": "validation", "eval_split": "validation"})


def test_new_options_that_are_not_used_leave_the_identity_of_a_run_as_it_was() -> None:
    """Or no run of an earlier release could be resumed."""
    model, options = parse_options("cnn", {})
    training = run_identity("cnn", model, options)["training"]
    assert training["held_out"] == ""
    assert not {"hold_out", "eval_split"} & training.keys()
    shares = [run_identity("cnn", *parse_options("cnn", {"hold_out": share})) for share in ("10%", "0.1", 0.1, "20 %")]
    assert shares[0] == shares[1] == shares[2] != shares[3]


def test_options_that_were_added_leave_the_identity_of_a_run_as_it_was_until_they_are_used() -> None:
    plain = run_identity("cnn", *parse_options("cnn", {}))
    assert not set(ADDED) & plain["training"].keys()
    assert run_identity("cnn", *parse_options("cnn", {"on_nan": "skip:3"})) == plain
    assert run_identity("cnn", *parse_options("cnn", {"accumulate": 2}))["training"]["accumulate"] == 2


@pytest.mark.parametrize("text", ["skip", "skip:", "skip:0", "skip:-1", "skip:many", "go", "stop:1"])
def test_a_wrong_policy_for_what_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match="expected stop, or skip:N with a number of batches"):
        parse_options("cnn", {"on_nan": text})
