"""A network of the user's own: a function in a file or module, trained, resumed and refused."""

import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.training.errors import TrainingError
from stoker.training.own.network import model_class
from stoker.training.run.options import parse_options, run_identity
from stoker.training.trained.evaluate import evaluate
from stoker.training.trained.load import load_trained
from tests.training.conftest import Small
from tests.training.run.small_runs import equal, run, weights

NETWORK = """
from torch import nn

def build(num_classes, channels, width: int = 4, deep=False, extra=None):
    more = [nn.LazyConv2d(width, 3), nn.ReLU()] if deep else []
    start = [nn.Conv2d(channels, width, 3), nn.ReLU(), *more]
    return nn.Sequential(*start, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LazyLinear(num_classes))

class Whole(nn.Linear):
    def __init__(self, num_classes, pixels, **others):
        super().__init__(pixels, num_classes)
    def forward(self, planes):
        return super().forward(planes.mean((1, 2)))

class Viewed(nn.Linear):
    def __init__(self, num_classes, channels, pixels):
        super().__init__(channels * pixels * pixels, num_classes)
    def forward(self, planes):
        return super().forward(planes.view(planes.size(0), -1))

class FailsLater(Viewed):
    calls = 0
    def forward(self, planes):
        self.calls += 1
        if self.calls > 3:
            raise ValueError("no\\nmore")
        return super().forward(planes)

def norm_of_one(num_classes): return nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d(), nn.LazyLinear(num_classes))
def frozen(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(256, num_classes)).requires_grad_(False)
def no_module(num_classes): return 3
def no_classes(channels): return nn.Identity()
def wrong_shape(num_classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(7))
def wrong_layers(num_classes): return nn.Linear(3, num_classes)
def raises(num_classes): raise ValueError("no\\nway")
def seeded(num_classes, seed=1): return nn.Identity()
def augments(num_classes, augment=True): return nn.Identity()
"""
OPTIONS = {"pixels": 16, "epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu"}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(NETWORK)
    model_class.cache_clear()
    return path


def test_a_function_of_a_file_is_trained_resumed_and_evaluated(digits: Small, network: Path) -> None:
    model = f"{network}:build"
    whole = run(digits, model, OPTIONS | {"width": "6", "deep": "true"})
    assert (whole.run, whole.step) == ("my_net-0001", 20)
    left = iter(range(100))
    first = run(digits, model, OPTIONS | {"width": 6, "deep": True}, stop=lambda: next(left) == 6)
    rest = run(digits, model, OPTIONS | {"width": 6, "deep": True}, resume=True)
    assert (first.run, first.step, rest.run, rest.resumed_at) == ("my_net-0002", 7, "my_net-0002", 7)
    assert equal(weights(digits, whole.run), weights(digits, rest.run))
    trained = load_trained(digits.store, "my_net", checkpoint="last", device="cpu", network=model)
    assert trained.info.run == "my_net-0002"
    found = evaluate(trained, digits.store, digits.manifest, cache=digits.cache)
    assert found.metrics["accuracy"] == rest.metrics["accuracy"]


def test_a_class_is_as_good_as_a_function_and_gets_what_it_takes(digits: Small, network: Path) -> None:
    assert run(digits, f"{network}:Whole", OPTIONS | {"epochs": 1}).step == 10


def test_a_module_may_view_its_planes_as_rows(digits: Small, network: Path) -> None:
    options = OPTIONS | {"epochs": 1, "colour": "rgb"}
    assert run(digits, f"{network}:Viewed", options).step == 10
    trained = load_trained(digits.store, "my_net", device="cpu", network=f"{network}:Viewed")
    assert evaluate(trained, digits.store, digits.manifest, cache=digits.cache).metrics["loss"] > 0


def test_a_last_batch_that_the_network_cannot_take_is_told_in_one_line(digits: Small, network: Path) -> None:
    samples = digits.manifest.splits["train"].samples
    with pytest.raises(TrainingError, match=r"its module fails on \(1, 1, 16, 16\) floats: ValueError: .*more than 1"):
        run(digits, f"{network}:norm_of_one", OPTIONS | {"batch_size": samples - 1})


def test_an_edited_file_is_another_model_and_old_weights_say_so(digits: Small, network: Path) -> None:
    model = f"{network}:build"
    first = run(digits, model, OPTIONS | {"epochs": 1})
    network.write_text(NETWORK.replace("AdaptiveAvgPool2d(3)", "AdaptiveAvgPool2d(2)"))
    model_class.cache_clear()
    assert run(digits, model, OPTIONS | {"epochs": 1}, resume=True).run != first.run
    with pytest.raises(TrainingError, match=r"small/my_net-0001: .*:build is not the code that it was trained with"):
        load_trained(digits.store, first.run, device="cpu", network=model)


def test_no_code_is_run_because_a_store_names_it(digits: Small, network: Path, tmp_path: Path) -> None:
    first = run(digits, f"{network}:build", OPTIONS | {"epochs": 1})
    model_class.cache_clear()
    network.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{NETWORK}")
    with pytest.raises(TrainingError, match=r"small/my_net-0001: its network is code of its own.*--network FILE"):
        load_trained(digits.store, first.run, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_module_is_found_in_the_current_folder(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(network.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    built, options = parse_options("my_net:build", {"width": "9"})
    identity = run_identity("my_net:build", built, options)
    assert identity["class"] == "my_net:build"
    assert identity["options"] == {
        "width": 9,
        "deep": False,
        "pixels": 32,
        "colour": "auto",
        "shift": 2,
        "flip": False,
        "label_smoothing": 0.0,
    }
    assert len(identity["sha256"]) == 64
    del sys.modules["my_net"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_module", "it returns int, expected an nn.Module"),
        ("no_classes", "it takes no num_classes"),
        ("wrong_shape", r"its module makes \(2, 7\) of \(2, 1, 16, 16\) floats, expected \(2, 10\)"),
        ("wrong_layers", r"its module fails on \(2, 1, 16, 16\) floats: RuntimeError"),
        ("raises", r"it fails with num_classes=10: ValueError: no way \(my_net.py, line \d+\)$"),
        ("FailsLater", r"its module fails on \(16, 1, 16, 16\) floats: ValueError: no more \(my_net.py, line \d+\)$"),
        ("frozen", "its module has no weights to train"),
        ("augments", "its parameter 'augment' is a name that training uses; rename it"),
        ("seeded", "its parameter 'seed' is a name that training uses; rename it"),
        ("bulid", "has no function 'bulid'; did you mean 'build'"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(digits: Small, network: Path, function: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        run(digits, f"{network}:{function}", OPTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere.py:build", None, "no file .*nowhere.py; expected FILE.py:FUNCTION"),
        ("./nowhere:build", None, r"'./nowhere' names no module; expected FILE.py:FUNCTION or PACKAGE.MODULE:FUNC"),
        (":build", None, "'' names no module; expected FILE.py:FUNCTION or"),
        ("nowhere:build", None, r"no module 'nowhere' here or in PYTHONPATH; a file is named as ./nowhere.py:build"),
        ("broken.py:build", "import nothing_of_that_name", "its import fails: ModuleNotFoundError"),
        ("broken.py:build", "def build(:", "its import fails: SyntaxError"),
        ("broken.py:build", "raise SystemExit(3)", "its import fails: SystemExit: 3"),
    ],
)
def test_what_does_not_import_is_one_line(
    name: str, text: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model_class.cache_clear()
    if text:
        (tmp_path / "broken.py").write_text(text)
    with pytest.raises(TrainingError, match=message) as caught:
        parse_options(name, {})
    assert "\n" not in str(caught.value)
