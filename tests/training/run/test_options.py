"""Wrong options and unfit corpora are refused, with what was found and what to do."""

from typing import Any

import pytest

from stoker.training.errors import TrainingError
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, run


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ("cmn", {}, "no model is called 'cmn'; did you mean 'cnn'?"),
        ("cnn", {"epoch": 3}, "no.* option 'epoch'; did you mean 'epochs'?"),
        ("cnn", {"epochs": "many"}, "epochs = 'many'; expected int"),
        ("cnn", {"epochs": 0}, "epochs = 0; expected 1 or more"),
        ("cnn", {"net": "vgg"}, "net = 'vgg'; expected one of: lenet5, resnet"),
        ("cnn", {"device": "gpu7"}, "device 'gpu7': .* there are: "),
        ("cnn", {"split": "test"}, "no samples in split 'test'"),
        ("cnn", {"held_out": "train"}, "no held-out split 'train'"),
        ("lstm", {}, "without a field 'txt'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_do(
    digits: Small, model: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        run(digits, model, values)


def test_a_classifier_refuses_a_corpus_without_labels(handbook: Small) -> None:
    with pytest.raises(TrainingError, match="has no label; a classifier needs one"):
        run(handbook, "cnn", CNN)
