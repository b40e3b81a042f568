"""A trained model as a file: loaded again it gives the same numbers, and holds no pickle."""

import errno
import io
import json
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stoker.training.errors import TrainingError
from stoker.training.trained.export import _write_new, export
from stoker.training.trained.load import Trained, load_trained
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, run

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("cnn", CNN | {"epochs": 1}),
    ("lstm", LSTM | {"tied": True, "hidden": 8}),
    ("lstm", LSTM | {"cell": "gru", "layers": 1}),
]


@pytest.fixture(params=MODELS, ids=["cnn", "lstm", "gru"])
def trained(request: pytest.FixtureRequest, digits: Small, handbook: Small) -> Trained:
    model, values = request.param
    small = digits if model == "cnn" else handbook
    return load_trained(small.store, run(small, model, values).run, device="cpu")


def inputs(trained: Trained, size: int) -> list[torch.Tensor]:
    """Those of a batch of this size, and what the network of the run itself makes of them."""
    generator = torch.Generator().manual_seed(size)
    if trained.info.identity["model"] == "cnn":
        return [torch.randint(0, 256, (size, 16, 16, 1), dtype=torch.uint8, generator=generator)]
    tokens = torch.randint(0, 257, (size,), generator=generator)
    _, state = trained.module(torch.zeros(size, 1, dtype=torch.int64))
    return [tokens, *(torch.rand(one.shape, generator=generator) for one in state)]


def expected(trained: Trained, given: list[torch.Tensor]) -> list[torch.Tensor]:
    if len(given) == 1:
        return [trained.module(given[0])]
    logits, state = trained.module(given[0][:, None], tuple(given[1:]))
    return [logits[:, 0], *state]


def about_of(text: str, trained: Trained) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(text)
    assert (about["run"], about["trained_on"]) == (trained.info.run, "small@1")
    assert about["schema"] == json.loads(json.dumps(trained.schema))
    return about


def test_safetensors_have_the_weights_and_what_is_to_be_known_of_them(trained: Trained, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    export(trained, "safetensors", path)
    with safetensors.safe_open(path, "pt") as file:
        about_of(file.metadata()["stoker"], trained)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    again = trained.model.build(trained.schema).eval()
    again.load_state_dict(weights)
    given = inputs(trained, 3)
    with torch.no_grad():
        theirs = again(given[0]) if len(given) == 1 else again(given[0][:, None], tuple(given[1:]))[0][:, 0]
        assert torch.equal(theirs, expected(trained, given)[0])


def test_a_program_of_torch_gives_the_same_for_batches_of_any_size_without_a_pickle(
    trained: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt2"
    export(trained, "torch", path)
    extra = {"stoker.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    about_of(extra["stoker.json"], trained)
    module = program.module()
    for size in (1, 2, 5):
        given = inputs(trained, size)
        with torch.no_grad():
            found, right = module(*given), expected(trained, given)
        for theirs, ours in zip(found if isinstance(found, tuple) else [found], right, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if "/weight_" not in name and is_pickle(archive.read(name))]
    assert pickles == []


def is_pickle(payload: bytes) -> bool:
    if payload[:2] == b"PK":  # of torch.save
        return True
    try:
        return payload[:1] == b"\x80" and bool(list(pickletools.genops(payload)))
    except ValueError:
        return False


@pytest.mark.slow  # tracing takes 5 s
def test_onnx_gives_the_same_for_batches_of_any_size(trained: Trained, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    path = tmp_path / "model.onnx"
    export(trained, "onnx", path)
    model = onnx.load(path)
    about_of({one.key: one.value for one in model.metadata_props}["stoker"], trained)
    names = [one.name for one in model.graph.input]
    assert names[0] == ("images" if trained.info.identity["model"] == "cnn" else "tokens")
    evaluator = ReferenceEvaluator(model)
    for size in (1, 5):
        given = inputs(trained, size)
        found = evaluator.run(None, {name: one.numpy() for name, one in zip(names, given, strict=True)})
        with torch.no_grad():
            right = expected(trained, given)
        for theirs, ours in zip(found, right, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=2e-5)


def test_a_file_that_is_there_stays_and_a_folder_that_is_not_is_named(digits: Small, tmp_path: Path) -> None:
    trained = load_trained(digits.store, run(digits, "cnn", CNN | {"epochs": 1}).run, device="cpu")
    path = tmp_path / "model.pt2"
    path.write_text("mine")
    with pytest.raises(TrainingError, match=r"model\.pt2: exists already; name a new file"):
        export(trained, "torch", path)
    assert path.read_text() == "mine"
    with pytest.raises(TrainingError, match="No such file or directory; name another file"):
        export(trained, "torch", tmp_path / "nowhere" / "model.pt2")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links_gets_the_file_too_and_keeps_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(source: Path, target: Path) -> None:  # as exFAT and SMB do
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "model.onnx"
    _write_new(path, b"weights")
    with pytest.raises(TrainingError, match="File exists; name another file"):
        _write_new(path, b"other weights")
    assert path.read_bytes() == b"weights"
    assert list(tmp_path.iterdir()) == [path]
