"""The pages of training runs: what each came to, its confusion matrix, and its most confident mistakes."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path
from fastapi.responses import HTMLResponse

from stoker.flows.page.site import HtmlPages, Reference
from stoker.flows.report.format import number_text
from stoker.flows.report.samples import SampleReader
from stoker.storage.errors import NotFound, StokerError
from stoker.storage.versions.catalog import parse_reference
from stoker.training.results import checkpoints
from stoker.training.results.checkpoints import CheckpointInfo
from stoker.training.results.evaluations import Evaluation, confused_pairs, evaluations

Run = Annotated[str, Path(max_length=100)]
_LISTED_RUNS = 50  # the newest ones
_SHADES = 8  # of a cell of the matrix, in the style sheet
_MAX_CLASSES = 30  # of a matrix; of more the pairs are listed
_MAX_PAIRS = 30


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a confusion matrix; ``shade``: its share of the row's samples, in eighths, at least 1 above 0."""

    count: int
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class Row:
    """The samples of a class."""

    name: str
    cells: tuple[Cell, ...]
    samples: int
    recall: float | None  # None: there is no sample


@dataclass(frozen=True, slots=True)
class Wrong:
    """A sample that the model is wrong about. ``link`` and ``picture`` are "" where the page has it no more."""

    key: str
    expected: str
    predicted: str
    probability: float
    link: str
    picture: str


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """An evaluation as the page shows it. All texts are untrusted."""

    title: str
    reference: str  # of a version that is there; "" if it is gone
    at: str  # ISO time; "" of the run's own
    numbers: list[tuple[str, str]]
    classes: Sequence[str]  # of the matrix; none if there are too many for one
    rows: list[Row]
    pairs: list[tuple[str, str, int]]
    wrong: list[Wrong]
    remarks: list[str]


class RunPages:
    """The handlers of the pages of training runs."""

    def __init__(self, reader: SampleReader, pages: HtmlPages) -> None:
        self._reader, self._pages = reader, pages

    def newest(self, corpus: str) -> tuple[list[CheckpointInfo], int]:
        """The last checkpoint of each of the newest runs, and how many runs there are."""
        names = checkpoints.runs(self._reader.store, corpus)

        def newest_of(name: str) -> CheckpointInfo | None:
            return next(checkpoints.infos(self._reader.store, corpus, name), None)

        with ThreadPoolExecutor(8, thread_name_prefix="runs") as pool:
            found = list(pool.map(newest_of, names[: -_LISTED_RUNS - 1 : -1]))
        return [info for info in found if info is not None], len(names)

    def find(self, corpus: str, run: str) -> CheckpointInfo:
        """The last checkpoint of a run. Raises NotFound."""
        name, _ = parse_reference(corpus)
        known = run in checkpoints.runs(self._reader.store, name)
        info = next(checkpoints.infos(self._reader.store, name, run), None) if known else None
        if info is None:
            raise NotFound(f"{name} has no training run {run!r} with a checkpoint")
        return info

    def runs(self, corpus: Reference) -> HTMLResponse:
        """The training runs of a corpus."""
        name, _ = parse_reference(corpus)
        found, total = self.newest(name)
        rows = [(info, dict(_numbers(info.metrics))) for info in found]
        return self._pages.page("runs.html", corpus=name, rows=rows, total=total)

    def run(self, corpus: Reference, run: Run) -> HTMLResponse:
        """One run: its own last evaluation, and those of `stoker evaluate`."""
        info = self.find(corpus, run)
        name, _ = parse_reference(corpus)
        own = f"Last evaluation of the training, at step {int(info.metrics.get('step', info.step)):,}"
        own += f", split {info.metrics['split']}" if "split" in info.metrics else ""
        views = [self._view(own, info.version, "", info.metrics)]
        for one in evaluations(self._reader.store, name, run):
            title = f"{one.reference}, split {one.split}, at step {one.step:,}"
            views.append(self._view(title, one.reference, one.at, one.metrics, one))
        options = {**info.identity.get("training", {}), **info.identity.get("options", {})}
        return self._pages.page("run.html", corpus=name, info=info, views=views, options=options)

    def _view(
        self, title: str, reference: str, at: str, metrics: Mapping[str, Any], one: Evaluation | None = None
    ) -> EvaluationView:  # Any: JSON values
        there = self._is_there(reference)
        classes, confusion = _matrix(metrics)
        few = len(classes) <= _MAX_CLASSES
        return EvaluationView(
            title=title,
            reference=reference if there else "",
            at=at,
            numbers=_numbers(metrics),
            classes=classes if few else (),
            rows=list(_rows(classes, confusion)) if few else [],
            pairs=confused_pairs(metrics)[:_MAX_PAIRS] if "confused" in metrics or not few else [],
            wrong=[_wrong(entry, reference if there else "") for entry in metrics.get("wrong", ())],
            remarks=one.remarks() if one else [],
        )

    def _is_there(self, reference: str) -> bool:
        try:
            self._pages.manifest(reference)
        except StokerError:  # deleted, or damaged: its own page says so
            return False
        return True


def _numbers(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:  # Any: JSON values
    """The numbers of an evaluation by name; ``score``, which is one of the others, is left out."""
    return [
        (name.replace("_", " "), number_text(value))
        for name, value in metrics.items()
        if isinstance(value, int | float) and name not in ("score", "step", "epochs")
    ]


def _matrix(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[int]]]:  # Any: JSON values
    """Classes and confusion; of a run of an older release, which named the classes in ``recall`` alone, too."""
    confusion = metrics.get("confusion", [])
    classes = [str(name) for name in metrics.get("classes", metrics.get("recall", ()))]
    return (classes, confusion) if len(classes) == len(confusion) else ([], [])


def _rows(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Iterator[Row]:
    for number, (name, counts) in enumerate(zip(classes, confusion, strict=True)):
        samples = sum(counts)
        cells = tuple(
            Cell(count, max(1, round(_SHADES * count / samples)) if count else 0, column == number)
            for column, count in enumerate(counts)
        )
        yield Row(name, cells, samples, counts[number] / samples if samples else None)


def _wrong(entry: Mapping[str, Any], reference: str) -> Wrong:  # Any: JSON values
    key = str(entry["key"])
    link = f"/c/{reference}/sample/{quote(key)}" if reference else ""
    picture = f"/c/{reference}/thumb/{quote(key)}" if reference else ""
    return Wrong(key, str(entry["expected"]), str(entry["predicted"]), float(entry["probability"]), link, picture)
