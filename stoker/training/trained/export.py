"""A trained model as a file for other programs: safetensors, ONNX, or a program of torch.export. None is a pickle."""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stoker.training.errors import TrainingError
from stoker.training.run.model import Traceable
from stoker.training.trained.formats import Format, check_format
from stoker.training.trained.load import Trained

NAME = "stoker.json"  # of what is said about the model, in a program of torch.export; in the others "stoker"


def export(trained: Trained, kind: Format, path: Path) -> dict[str, Any]:  # Any: JSON values
    """Write a trained model into a new file; what the file says about it, without the schema.

    Args:
        trained: the model.
        kind: safetensors: the weights alone; onnx and torch: the network too, for batches of any size. A recurrent
            model is one step: a token for each row and the state before in, logits and the state after out.
        path: of the file; it appears whole or not at all.

    Raises TrainingError.
    """
    check_format(kind, path)
    about = _about(trained)
    with _quiet():
        if kind == "safetensors":
            payload = _safetensors(trained, about)
        else:
            traceable = _traceable(trained)
            payload = _onnx(traceable, about) if kind == "onnx" else _program(traceable, about)
    _write_new(path, payload)
    return {name: value for name, value in about.items() if name != "schema"} | {
        "file": str(path),
        "size": len(payload),
    }


def _about(trained: Trained) -> dict[str, Any]:  # Any: JSON values
    """What a program that reads the file needs: classes, sizes, means; and where the model comes from."""
    info = trained.info
    schema = {name: value for name, value in trained.schema.items() if name != "left_out"}
    return {
        "run": info.run,
        "corpus": trained.corpus,
        "model": info.identity["model"],
        "step": info.step,
        "trained_on": info.version,
        "options": info.identity.get("options", {}),
        "schema": schema,
    }


def _safetensors(trained: Trained, about: dict[str, Any]) -> bytes:  # Any: as above
    from safetensors.torch import save

    # Cloned: weights that are tied share their memory, which the format does not have.
    weights = {name: one.detach().cpu().contiguous().clone() for name, one in trained.module.state_dict().items()}
    payload: bytes = save(weights, metadata={"format": "pt", "stoker": json.dumps(about, sort_keys=True)})
    return payload


def _traceable(trained: Trained) -> Traceable:
    model: Any = trained.model  # Any: traceable is not part of every Model
    if not hasattr(model, "traceable"):
        kind = trained.info.identity["model"]
        raise TrainingError(f"{trained.name}: model {kind} cannot be traced; --format safetensors has its weights")
    found: Traceable = model.traceable(trained.module.cpu(), trained.schema)
    return found


def _exported(traceable: Traceable) -> torch.export.ExportedProgram:
    """The network's graph, for batches of any size."""
    batch = torch.export.Dim("batch", min=1)
    first, *others = ({dimension: batch} for dimension in traceable.batch_dimensions)
    dynamic: Any = (first, tuple(others)) if others else (first,)  # Any: as export takes it
    try:
        with torch.no_grad():
            return torch.export.export(traceable.module.eval(), traceable.inputs, dynamic_shapes=dynamic)
    except (RuntimeError, ValueError, TypeError) as error:  # of torch: UserError and Unsupported are of these
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"torch.export cannot trace this network: {reason}; --format safetensors can") from error


def _program(traceable: Traceable, about: dict[str, Any]) -> bytes:  # Any: as above
    program = _exported(traceable)
    program.example_inputs = None  # they would be written as a pickle
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={NAME: json.dumps(about, sort_keys=True)})
    return file.getvalue()


def _onnx(traceable: Traceable, about: dict[str, Any]) -> bytes:  # Any: as above
    program = torch.onnx.export(
        _exported(traceable),
        dynamo=True,
        verbose=False,
        input_names=list(traceable.input_names),
        output_names=list(traceable.output_names),
    )
    assert program is not None
    program.model.metadata_props["stoker"] = json.dumps(about, sort_keys=True)
    payload: bytes = program.model_proto.SerializeToString()
    return payload


def _write_new(path: Path, payload: bytes) -> None:
    """Create a file with these bytes, whole or not at all. Raises TrainingError."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")  # another export may be writing this name, too
    try:
        _write_exclusively(part, payload)
        try:
            os.link(part, path)  # fails if the name was taken meanwhile
        except FileExistsError:
            raise
        except OSError:  # exFAT, SMB and others have no links
            _write_exclusively(path, payload)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; name another file") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _write_exclusively(path: Path, payload: bytes) -> None:
    with path.open("xb") as file:
        try:
            file.write(payload)
            file.flush()
        except BaseException:  # an interrupt too: half a file would be taken for a model
            path.unlink()
            raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say about packages that are not here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
