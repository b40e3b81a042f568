"""Measure claims about methods of learning on a version: `stoker study`.

Each run of a row is saved as soon as it is done, under a digest of all that it depends on: the version's content, the
splits, the row's options, the seed and the code. The same call measures what is missing, and nothing twice.
"""

import difflib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stoker.storage.clock import timestamp, utc_now
from stoker.storage.errors import CorruptShard
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.measured.studies import Study, load_study, save_study
from stoker.training.errors import TrainingError
from stoker.training.pictures.pictures import IMAGE_FIELDS
from stoker.training.run.model import Corpus
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.streams import divided
from stoker.training.stream.stream import version_of
from stoker.training.stream.subset import Needs, survey
from stoker.training.stream.tokens import BYTES
from stoker.training.studies import data as study_data
from stoker.training.studies.claims.image_claims import image_claims
from stoker.training.studies.claims.text_claims import text_claims
from stoker.training.studies.code import code_of
from stoker.training.studies.copied import copied
from stoker.training.studies.measure import measure
from stoker.training.studies.plan import Claim, Row, Scale, judge
from stoker.training.studies.pool import Task, Workers
from stoker.training.studies.threads import one_thread

_MAX_WORKERS = 8
_LIMITS = {  # by kind of study and of data
    ("quick", "images"): study_data.Limits(6_000, 2_000),
    ("full", "images"): study_data.Limits(60_000, 10_000),
    ("quick", "texts"): study_data.Limits(1_000_000, 100_000),
    ("full", "texts"): study_data.Limits(10_000_000, 500_000),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is. ``text``: what is done now, or was done."""

    done: int  # runs, those of earlier calls too
    runs: int
    text: str = ""


def _no_progress(progress: Progress) -> None:
    """Show nothing."""


def study(
    store: Store,
    version: Manifest | str,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    seeds: int = 0,
    split: str = "train",
    eval_split: str = "",
    hold_out: str = "",
    workers: int | None = None,
    cache: Path | None = None,
    progress: Callable[[Progress], None] = _no_progress,
) -> Study:
    """Measure the claims that apply to a version, and save what was measured beside it.

    It may be interrupted anywhere: what is done is saved, and the same call measures the rest. What was measured by
    other code or on other data stays in the study, marked as outdated and not judged, until a row of the same name is
    measured.

    >>> from dataclasses import replace
    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import study
    >>> store, manifest = sample_corpus(200, kind="images")  # two shards; one is to be the held-out split
    >>> manifest = replace(manifest, shards=(manifest.shards[0], replace(manifest.shards[1], split="validation")))
    >>> result = study(store, manifest, quick=True, only=["gpu"], workers=0)
    >>> [(claim["name"], claim["verdict"]) for claim in result.claims][-1]
    ('gpu', 'not applicable')

    Args:
        store: where the version is, and where the study goes.
        version: its manifest, or a reference such as "digits@2".
        quick: minutes instead of half an hour: fewer samples, steps and seeds.
        only: names of claims, or of rows; all if there are none.
        seeds: how often each row that depends on chance is measured; 0: as the row says.
        split: to train on.
        eval_split: to test on, never trained on; "": validation, or else any other split.
        hold_out: instead of it a share of the training split.
        workers: processes that measure, each with one thread; None: one a core; 0: this process.
        cache: for shards.
        progress: called with a Progress after each run.

    Raises UnknownName, TrainingError, StorageError.
    """
    store = with_patience(store)
    manifest = version_of(store, version)
    options = TrainOptions(split=split, eval_split=eval_split, hold_out=hold_out)
    corpus, tested_on = divided(Corpus(store, manifest, cache), options)
    texts = _is_of_texts(corpus)
    plan = _Plan(corpus, split, tested_on, "quick" if quick else "full", texts, seeds, tuple(only))
    plan.claims({"train": sys.maxsize})  # refuses names now that no samples would make known, however many
    saved, notes = _saved(store, manifest, plan)
    for note in notes:
        progress(Progress(0, 0, note))
    with tempfile.TemporaryDirectory(prefix="stoker-study-") as name:
        folder = Path(name)
        about = saved.about["data"] if saved and saved.about.get("data_key") == plan.data_key else None
        if about is None or (texts and "copied" not in about):  # studies of before do not have it
            about = plan.gather(folder)
        board = _Board(store, manifest, plan, about, saved)
        tasks = board.missing()
        progress(Progress(board.done, board.runs))
        if tasks and not (folder / "about.json").exists():
            plan.gather(folder)
        board.save()
        with _measuring(folder, tasks, workers) as results:
            for (row, seed), run in results:
                board.add(row, seed, run)
                board.save()
                text = f"{row.name}, seed {seed}: {board.scale.text(run['score'])} in {run['cpu_s']:.1f} CPU-s"
                progress(Progress(board.done, board.runs, text))
        return board.study()


@contextmanager
def _measuring(
    folder: Path, tasks: Sequence[Task], workers: int | None
) -> Iterator[Iterator[tuple[Task, dict[str, Any]]]]:  # Any: JSON values
    """The results of tasks, as they come."""
    count = min(len(tasks), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, _MAX_WORKERS)
    count = count if workers is None else min(workers, len(tasks))
    if count:
        with closing(Workers(folder, count)) as pool:
            yield pool.measure(tasks)
        return
    with one_thread():
        data = study_data.open_data(folder) if tasks else None
        yield (((row, seed), measure(row, data, seed)) for row, seed in tasks if data is not None)


def _is_of_texts(corpus: Corpus) -> bool:
    """Whether the study is one of texts. Raises TrainingError where the corpus is of neither kind."""
    pictures = survey(corpus.store, corpus.manifest, Needs(IMAGE_FIELDS, "image", label=True), cache=corpus.cache)
    if any(pictures.usable.values()) and len(pictures.labels) > 1:
        return False
    texts = survey(corpus.store, corpus.manifest, Needs((BYTES.field,), "text"), cache=corpus.cache)
    if any(texts.usable.values()):
        return True
    raise TrainingError(
        f"{corpus.manifest.reference}: no images with labels of two classes or more, and no texts; a study needs either"
    )


def _quoted(names: Iterable[str]) -> str:
    """Names in a message, each in quotes: some hold commas."""
    return ", ".join(map(repr, sorted(names)))


class UnknownName(TrainingError):
    """No claim or row of a study has this name."""


@dataclass(frozen=True)
class _Plan:
    """What is to be measured, with which samples."""

    corpus: Corpus
    split: str
    eval_split: str
    kind: str  # quick or full
    texts: bool
    seeds: int
    only: tuple[str, ...]

    @property
    def limits(self) -> study_data.Limits:
        return _LIMITS[self.kind, "texts" if self.texts else "images"]

    @property
    def data_key(self) -> list[Any]:  # Any: JSON values
        """What decides which samples are there."""
        manifest = self.corpus.manifest
        return [manifest.content, self.split, self.eval_split, self.limits.train, self.limits.test]

    def gather(self, folder: Path) -> dict[str, Any]:  # Any: JSON values
        """Read the samples into a folder, and count them."""
        gather = study_data.gather_texts if self.texts else study_data.gather_images
        about = gather(self.corpus, self.split, self.eval_split, self.limits, folder)
        (folder / "about.json").write_text(json.dumps(about))
        counts = self.corpus.manifest.splits
        totals = {name: counts[name].samples for name in (self.split, self.eval_split)}
        found = {**study_data.describe(folder, about), "totals": totals}
        data = study_data.open_data(folder)
        if isinstance(data, study_data.Texts):
            found["copied"] = round(copied(data.train, data.test), 4)
        return found

    def claims(self, about: Mapping[str, Any]) -> list[Claim]:  # Any: JSON values
        """The claims for such data. Raises UnknownName for one in ``only``."""
        found = (text_claims if self.texts else image_claims)(about, quick=self.kind == "quick")
        names = {claim.name for claim in found}
        rows = {row.name for claim in found for row in claim.rows}
        for name in self.only:
            if name not in names | rows:
                lower = {known.lower(): known for known in sorted(names | rows)}
                near = difflib.get_close_matches(name.lower(), lower, n=1)
                there = f"there are claims {_quoted(names)}; and rows {_quoted(rows)}"
                hint = f"did you mean {lower[near[0]]!r}?" if near else there
                raise UnknownName(f"study: no claim or row is called {name!r}; {hint}")
        return found

    def seeds_of(self, row: Row) -> range:
        """The seeds to measure a row with."""
        return range(self.seeds if self.seeds and row.random else row.seeds)

    def is_wanted(self, claim: Claim, row: Row) -> bool:
        """Whether this call is to measure a row."""
        return not self.only or claim.name in self.only or row.name in self.only


@dataclass
class _Board:
    """The runs that are done, of this call and of earlier ones."""

    store: Store
    manifest: Manifest
    plan: _Plan
    about: Mapping[str, Any]  # Any: JSON values; of the data
    saved: Study | None
    found: dict[str, dict[str, Any]] = field(default_factory=dict)  # Any: JSON values; runs by digest

    def __post_init__(self) -> None:
        self.claims = self.plan.claims(self.about)
        self.scale = Scale(
            "bits_per_character" if self.plan.texts else "accuracy", 8.0 if self.plan.texts else self.about["chance"]
        )
        self.rows = {row.name: row for claim in self.claims for row in claim.rows}
        wanted = [row.name for claim in self.claims for row in claim.rows if self.plan.is_wanted(claim, row)]
        self.wanted = list(dict.fromkeys(wanted))
        runs = [run for row in (self.saved.rows if self.saved else ()) for run in row["runs"]]
        self.found = {run["digest"]: run for run in runs}

    def digest(self, row: Row, seed: int) -> str:
        """What a run depends on."""
        return row.digest(seed, self.plan.data_key, code_of(row.method))

    @property
    def runs(self) -> int:
        """How many runs this call wants."""
        return sum(len(self.plan.seeds_of(self.rows[name])) for name in self.wanted)

    @property
    def done(self) -> int:
        """How many of them are done."""
        return self.runs - len(self.missing())

    def missing(self) -> list[Task]:
        """The runs that are not done, the longest first, so that none is left over at the end."""
        tasks = [(self.rows[name], seed) for name in self.wanted for seed in self.plan.seeds_of(self.rows[name])]
        missing = [(row, seed) for row, seed in tasks if self.digest(row, seed) not in self.found]
        return sorted(missing, key=lambda task: (task[1], -task[0].weight))

    def add(self, row: Row, seed: int, run: dict[str, Any]) -> None:  # Any: JSON values
        """Take in what a run reached."""
        digest = self.digest(row, seed)
        self.found[digest] = {**run, "seed": seed, "digest": digest, "machine": _machine()}

    def study(self) -> Study:
        """All that is known now."""
        rows = [told for row in self.rows.values() if (told := self._row(row))["runs"]]
        by_name = {row["name"]: row for row in rows}
        gone = by_name.keys() | set(self.wanted)
        kept = [{**row, "outdated": True} for row in (self.saved.rows if self.saved else ()) if row["name"] not in gone]
        return Study(
            corpus=self.manifest.corpus,
            version=self.manifest.version,
            kind=self.plan.kind,
            content=self.manifest.content,
            measure=self.scale.measure,
            updated_at=timestamp(utc_now()),
            about={"data": dict(self.about), "data_key": self.plan.data_key, "machine": _machine()},
            claims=[judge(claim, by_name, self.scale) for claim in self.claims],
            rows=rows + kept,
        )

    def _row(self, row: Row) -> dict[str, Any]:  # Any: JSON values
        """A row and its runs."""
        most = max(len(self.plan.seeds_of(row)), 32)
        digests = [self.digest(row, seed) for seed in range(most)]
        runs = [dict(self.found[digest]) for digest in digests if digest in self.found]
        sizes = {name: runs[0].get(name, 0) if runs else 0 for name in ("parameters", "multiplications")}
        about = {"name": row.name, "method": row.method, "options": dict(row.options), "training": dict(row.training)}
        return {**about, **sizes, "runs": runs}

    def save(self) -> None:
        """Write what is known, with runs that another call has saved meanwhile."""
        self.saved, _ = _saved(self.store, self.manifest, self.plan)
        for run in (run for row in (self.saved.rows if self.saved else ()) for run in row["runs"]):
            self.found.setdefault(run["digest"], run)
        save_study(self.store, self.study())


def _saved(store: Store, manifest: Manifest, plan: _Plan) -> tuple[Study | None, list[str]]:
    """The study that is there, and what is to be told of it."""
    try:
        found = load_study(store, manifest.corpus, manifest.version, plan.kind)
    except CorruptShard as error:
        return None, [str(error)]
    return found, []


def _machine() -> dict[str, Any]:  # Any: JSON values
    """What the seconds depend on."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "gpu": cuda,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(errors="replace").splitlines() if information.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
