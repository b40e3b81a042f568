"""A trained model's answers for files: the class of images, or the text that follows a prompt."""

import dataclasses
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stoker.training.errors import TrainingError
from stoker.training.trained.load import Trained

_MAX_SIZE = 256 * 2**20  # bytes of a file that is read
_BATCH = 32  # files that are answered at a time, at most
_BATCH_SIZE = 64 * 2**20  # bytes of them, unless a single one is larger


_SIDECARS = (".txt", ".json")
_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for a file: its most probable classes, the first one first, or what is wrong with it."""

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As it is printed for programs."""
        if self.problem:
            return {"path": str(self.path), "error": self.problem}
        named = [{"class": name, "probability": round(probability, 6)} for name, probability in self.classes]
        return {"path": str(self.path), **named[0], "classes": named}


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and all of the folders that are, at any depth, sorted; hidden ones only if named.

    So are sidecars of images, as ``local_files`` reads them: a .txt or .json of the same name, and tables of metadata.
    Raises TrainingError for a path that is not there, and if there is no file at all.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise TrainingError(f"{path}: no such file or folder")
        if path.is_dir():
            inside = (one for one in path.rglob("*") if not one.is_dir())
            seen = [one for one in inside if not any(part[0] == "." for part in one.relative_to(path).parts)]
            found += sorted(_without_sidecars(seen))
        else:
            found.append(path)
    if not found:
        raise TrainingError(f"{', '.join(map(str, paths))}: no file in it")
    return found


def _without_sidecars(paths: Sequence[Path]) -> Iterator[Path]:
    described = {one.with_suffix("") for one in paths if one.suffix.lower() not in _SIDECARS}
    for path in paths:
        is_sidecar = path.suffix.lower() in _SIDECARS and path.with_suffix("") in described
        if not is_sidecar and path.name not in _TABLES:
            yield path


def predict(
    trained: Trained, files: Iterable[Path], *, top: int = 3, progress: Callable[[int], None] = lambda done: None
) -> Iterator[Prediction]:
    """The answer for each file, in their order; ``progress`` is called with the number of files that are done.

    Raises TrainingError for a model that tells no classes apart.
    """
    model: Any = trained.model  # Any: predict is not part of every Model
    if not hasattr(model, "predict"):
        kind = trained.info.identity["model"]
        writes = "; it writes texts: --prompt TEXT" if hasattr(model, "prompt") else ""
        raise TrainingError(f"{trained.name}: model {kind} has no answer for files{writes}")
    done = 0
    for batch in _batches(files):
        payloads = [_read(path) for path in batch]
        readable = [payload for payload in payloads if isinstance(payload, bytes)]
        with torch.inference_mode():
            answers = iter(model.predict(trained.module, readable, trained.schema, trained.device))
        for path, payload in zip(batch, payloads, strict=True):
            yield _prediction(path, next(answers) if isinstance(payload, bytes) else payload, top)
        done += len(batch)
        progress(done)


def write(trained: Trained, prompt: str, *, seed: int = 0, **options: Any) -> str:  # Any: values of options
    """The text that a model writes after a prompt; ``options``: of the model, as ``temperature``.

    Raises TrainingError for a model that writes none.
    """
    model: Any = trained.model  # Any: the options of a Model are its own
    if not hasattr(model, "prompt"):
        raise TrainingError(
            f"{trained.name}: model {trained.info.identity['model']} writes no texts; name files for it"
        )
    unknown = [name for name in options if not hasattr(model, name)]
    if unknown:
        raise TrainingError(f"{trained.name}: its model has no option {unknown[0]}")
    chosen = dataclasses.replace(model, prompt=prompt, **options)
    with torch.inference_mode():
        text: str = chosen.generate(trained.module, trained.schema, trained.device, seed)
    return text


def _batches(files: Iterable[Path]) -> Iterator[list[Path]]:
    """The files in their order, so many at a time as memory may hold at once."""
    batch: list[Path] = []
    held = 0
    for path in files:
        try:
            size = min(path.stat().st_size, _MAX_SIZE)
        except OSError:  # ``_read`` says so
            size = 0
        if batch and (len(batch) == _BATCH or held + size > _BATCH_SIZE):
            yield batch
            batch, held = [], 0
        batch.append(path)
        held += size
    if batch:
        yield batch


def _read(path: Path) -> bytes | str:
    """The file's bytes, or why they cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "no regular file"
        if status.st_size > _MAX_SIZE:
            return f"{status.st_size:,} bytes; at most {_MAX_SIZE:,} are read"
        return path.read_bytes()
    except OSError as error:
        return error.strerror or type(error).__name__


def _prediction(path: Path, answer: dict[str, float] | str, top: int) -> Prediction:
    if isinstance(answer, str):
        return Prediction(path, problem=answer)
    best = sorted(answer.items(), key=lambda one: -one[1])[:top]
    return Prediction(path, tuple(best))
