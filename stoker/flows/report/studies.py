"""A study's numbers as texts, for the terminal and the page, and all of it as JSON."""

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import mean, stdev
from typing import Any

from stoker.storage.plural import plural
from stoker.storage.versions.measured.studies import Study

Values = Mapping[str, Any]  # Any: JSON values
_UNITS = ("", "k", "M", "G", "T")


def study_json(study: Study) -> dict[str, Any]:  # Any: JSON values
    """What `stoker study --json` prints."""
    verdicts = Counter(claim["verdict"] for claim in study.claims)
    rows = [{**row, "score": mean(scores(row)), "spread": spread(row)} for row in study.rows]
    reference = f"{study.corpus}@{study.version}"
    return {"reference": reference, **study.to_json(), "rows": rows, "verdicts": dict(sorted(verdicts.items()))}


def verdicts_text(study: Study) -> str:
    """How many claims held."""
    verdicts = Counter(claim["verdict"] for claim in study.claims)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    outdated = sum(row.get("outdated", False) for row in study.rows)
    more = f" and {outdated} outdated" if outdated else ""
    return f"{plural(len(study.rows) - outdated, 'row')}{more}; of {plural(len(study.claims), 'claim')}: {counts}"


def row_notes(study: Study, row: Values) -> list[str]:
    """What is to be said below a table of one of its rows."""
    notes = [run["note"] for run in row["runs"] if run.get("note")]
    machines = {_machine_text(run["machine"]) for run in row["runs"] if "machine" in run}
    notes += [f"seconds of another machine: {other}" for other in sorted(machines - {machine_text(study)})]
    if row.get("outdated"):
        notes.append("outdated, measured by other code or on other data; no claim is judged by it")
    return [f"{row['name']}: {note}" for note in dict.fromkeys(notes)]


def data_text(study: Study) -> str:
    """What was trained and tested on."""
    data, what = study.about["data"], "images" if study.measure == "accuracy" else "bytes"
    totals = list(data["totals"].values()) if what == "images" else []
    sampled = (
        f" (sampled of {totals[0]:,} and {totals[1]:,})" if totals and [data["train"], data["test"]] < totals else ""
    )
    copied = f"; {data['copied']:.0%} of these are in the training text, too" if data.get("copied", 0) >= 0.005 else ""
    return f"{data['train']:,} {what} to train on, {data['test']:,} held out{sampled}{copied}"


def machine_text(study: Study) -> str:
    """Where the seconds were measured."""
    return _machine_text(study.about["machine"])


def _machine_text(machine: Values) -> str:
    return ", ".join(text for text in (machine["processor"], machine["gpu"], f"torch {machine['torch']}") if text)


def score_name(study: Study) -> str:
    """The head of the column of scores."""
    return "accuracy" if study.measure == "accuracy" else "bits/char"


def row_texts(study: Study, row: Values) -> list[str]:
    """Name, score, seconds of training and testing, weights and multiplications of a row."""
    runs = row["runs"]
    return [
        row["name"],
        score_text(study, row),
        seconds_text(run["cpu_s"] for run in runs),
        seconds_text(run["test_cpu_s"] for run in runs),
        short_number(row["parameters"]),
        short_number(row["multiplications"]) if row["multiplications"] else "",
    ]


def scores(row: Values) -> list[float]:
    """The score of each run."""
    return [run["score"] for run in row["runs"]]


def spread(row: Values) -> float | None:
    """The standard deviation over seeds; None for one run."""
    return stdev(scores(row)) if len(row["runs"]) > 1 else None


def score_text(study: Study, row: Values) -> str:
    """The mean score with its spread."""
    deviation = spread(row)
    if study.measure == "accuracy":
        more = "" if deviation is None else f" ±{100 * deviation:.1f}"
        return f"{100 * mean(scores(row)):.1f} %{more}"
    return f"{mean(scores(row)):.3f}" + ("" if deviation is None else f" ±{deviation:.3f}")


def seconds_text(values: Iterable[float]) -> str:
    """The mean of seconds."""
    value = mean(values)
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def short_number(value: float) -> str:
    """A number in three digits.

    >>> short_number(61706), short_number(12206720), short_number(24)
    ('61.7k', '12.2M', '24')
    """
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            return f"{value:.3g}{unit}"
        value /= 1000
    raise AssertionError("the last unit takes any number")
