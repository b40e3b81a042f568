"""The page of a version's studies: the table of each claim, with learning curves and gradients by layer as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.responses import HTMLResponse

from stoker.flows.page.site import HtmlPages, Reference
from stoker.flows.report.samples import SampleReader
from stoker.flows.report.studies import data_text, machine_text, row_notes, row_texts, score_name, verdicts_text
from stoker.storage.errors import NotFound
from stoker.storage.versions.measured.studies import Study, studies_of

_WIDTH, _HEIGHT = 600.0, 220.0  # of a drawing, in its own units
_LEAST, _MOST = 1e-12, 1e6  # of a gradient's norm that is drawn: others lie on the edge
_COLOURS = 8  # in the style sheet

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a drawing, as the points of an SVG polyline; ``colour`` is a number in the style sheet."""

    name: str
    points: str
    colour: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with the names of its ends."""

    title: str
    lines: tuple[Line, ...]
    top: str
    bottom: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A claim as the page shows it."""

    claim: Mapping[str, Any]  # Any: JSON values
    rows: list[list[str]]
    charts: list[Chart]
    notes: list[str]


class StudyPages:
    """The handlers of studies."""

    def __init__(self, reader: SampleReader, pages: HtmlPages) -> None:
        self._reader, self._pages = reader, pages

    def find(self, reference: str) -> list[Study]:
        """The studies of a version. Raises NotFound if there are none, and what load_study raises."""
        manifest = self._pages.manifest(reference)
        found = studies_of(self._reader.store, manifest.corpus, manifest.version)
        if not found:
            raise NotFound(f"{manifest.reference} has no study; `stoker study {manifest.reference} --quick` makes one")
        return found

    def study(self, reference: Reference) -> HTMLResponse:
        """What methods of learning reach on a version, claim by claim."""
        studies = self.find(reference)
        views = [
            {
                "kind": study.kind,
                "at": study.updated_at,
                "data": data_text(study),
                "machine": machine_text(study),
                "summary": verdicts_text(study),
                "score": score_name(study),
                "claims": [_view(study, claim) for claim in study.claims],
            }
            for study in studies
        ]
        name = f"{studies[0].corpus}@{studies[0].version}"
        return self._pages.page("study.html", reference=name, studies=views, width=_WIDTH, height=_HEIGHT)


def _view(study: Study, claim: Mapping[str, Any]) -> ClaimView:  # Any: JSON values
    by_name = {row["name"]: row for row in study.rows}
    rows = [by_name[name] for name in claim["rows"] if name in by_name]
    notes = [note for row in rows for note in row_notes(study, row)]
    charts = [chart for chart in (_curves(rows), _gradients(rows)) if chart]
    return ClaimView(claim, [row_texts(study, row) for row in rows], charts, notes)


def _curves(rows: Sequence[Mapping[str, Any]]) -> Chart | None:  # Any: JSON values
    """The loss of each row's first run, from its first step to its last."""
    found = {row["name"]: [(step, loss) for step, loss in row["runs"][0]["curve"] if loss is not None] for row in rows}
    found = {name: points for name, points in found.items() if len(points) > 1}
    if not found:
        return None
    top = max(points[0][1] for points in found.values()) * 1.2  # what diverges lies on the edge
    last = max(points[-1][0] for points in found.values())
    lines = {
        name: [(step / last, min(1.0, max(0.0, loss / top))) for step, loss in points] for name, points in found.items()
    }
    return _chart("Loss while training", lines, f"{top:.2g}", "0", "first step", f"step {last:,}")


def _gradients(rows: Sequence[Mapping[str, Any]]) -> Chart | None:  # Any: JSON values
    """The norm of the gradients of each layer's weights at the first step, on a logarithmic scale."""
    found = {row["name"]: row["runs"][0]["gradients"] for row in rows}
    found = {name: norms for name, norms in found.items() if len(norms) > 2}
    if not found:
        return None
    logs = {name: [_log(norm) for norm in norms] for name, norms in found.items()}
    low, high = (edge(value for values in logs.values() for value in values) for edge in (min, max))
    span = max(1.0, high - low)
    lines = {
        name: [(place / (len(values) - 1), (value - low) / span) for place, value in enumerate(values)]
        for name, values in logs.items()
    }
    ends = ("the layer at the input", "at the output")
    return _chart("Norm of each layer's gradient at the first step", lines, _power(high), _power(low), *ends)


def _log(norm: float | None) -> float:
    """None, which is no finite number, lies at the top."""
    return math.log10(min(_MOST, max(_LEAST, _MOST if norm is None else norm)))


def _power(logarithm: float) -> str:
    return f"{10**logarithm:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _chart(title: str, lines: Mapping[str, Points], top: str, bottom: str, left: str, right: str) -> Chart:
    drawn = [
        Line(name, " ".join(f"{x * _WIDTH:.1f},{(1 - y) * _HEIGHT:.1f}" for x, y in points), number % _COLOURS)
        for number, (name, points) in enumerate(lines.items())
    ]
    return Chart(title, tuple(drawn), top, bottom, left, right)
