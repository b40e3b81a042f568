"""What a study measures: rows, and the claims that compare them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any, Literal

_UNDECIDING = ("name", "seeds", "random", "weight")  # fields of a row that change no result
Values = Mapping[str, Any]  # Any: JSON values


@dataclass(frozen=True)
class Row:
    """One method with its options, measured once for each seed."""

    name: str
    method: Literal["cnn", "lstm", "shallow", "ngram"]
    options: Values = field(default_factory=dict)  # of the method; of cnn and lstm those of the model
    training: Values = field(default_factory=dict)  # options of TrainOptions: optimiser, max_steps, ...
    samples: int = 0  # samples, or bytes of text, to train on at most; 0: all that are in memory
    share: float = 1.0  # of them
    tested: int = 0  # to test on at most; 0: all that are in memory
    seeds: int = 1  # unless the study says how many
    random: bool = True  # whether the seed decides anything
    weight: float = 1.0  # about how long it takes, in any unit: long ones begin first

    def digest(self, seed: int, *about: object) -> str:
        """What a run of this row depends on, and ``about``: the data, the code."""
        content = {name: value for name, value in asdict(self).items() if name not in _UNDECIDING}
        text = json.dumps([content, seed, *about], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def samples_of(row: Row, available: int) -> int:
    """How many samples a row trains on."""
    return max(1, round(row.share * min(row.samples or available, available)))


@dataclass(frozen=True)
class Expect:
    """What a claim expects of one row, or of two of them.

    ``above``: the score of ``row`` is better than that of ``other`` by ``margin`` or more, which may be negative.
    ``learns``: it is better than chance by ``margin``; ``fails``: it is not even better than chance by ``margin``.
    ``smaller``: ``other`` has ``margin`` times as many of ``measure`` as ``row``, or more.
    """

    kind: Literal["above", "learns", "fails", "smaller"]
    row: str
    other: str = ""
    margin: float = 0.0
    measure: str = "score"


@dataclass(frozen=True)
class Claim:
    """A sentence, the rows that it is about, and what it expects of them; or why it does not apply to a corpus."""

    name: str
    title: str
    rows: Sequence[Row] = ()
    expects: Sequence[Expect] = ()
    inapplicable: str = ""


@dataclass(frozen=True)
class Scale:
    """How scores are compared and told."""

    measure: str  # accuracy or bits_per_character
    chance: float  # of guessing without looking

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.measure == "accuracy" else -1

    def text(self, score: float) -> str:
        """A score, or a difference of two.

        >>> Scale("accuracy", 0.1).text(0.9125), Scale("bits_per_character", 8.0).text(2.5)
        ('91.2 %', '2.500')
        """
        return f"{100 * score:.1f} %" if self.measure == "accuracy" else f"{score:.3f}"


def judge(claim: Claim, rows: Mapping[str, Values], scale: Scale) -> dict[str, Any]:  # Any: JSON values
    """A claim with its verdict: held, not held, not applicable, or unfinished while rows are missing.

    Args:
        claim: what is claimed.
        rows: the rows that were measured, by name.
        scale: of their scores.
    """
    about = {"name": claim.name, "title": claim.title, "rows": [row.name for row in claim.rows]}
    if claim.inapplicable:
        return {**about, "expects": [], "verdict": "not applicable", "reason": claim.inapplicable}
    expects = [_judged(expect, rows, scale) for expect in claim.expects]
    missing = [row.name for row in claim.rows if row.name not in rows]
    if missing:
        verdict, reason = "unfinished", f"not measured: {', '.join(missing)}"
    else:
        failed = [expect["text"] for expect in expects if not expect["held"]]
        verdict, reason = ("not held", "; ".join(failed)) if failed else ("held", "")
    return {**about, "expects": expects, "verdict": verdict, "reason": reason}


def _judged(expect: Expect, rows: Mapping[str, Values], scale: Scale) -> dict[str, Any]:  # Any: JSON values
    needed = [name for name in (expect.row, expect.other) if name]
    known = all(name in rows for name in needed)
    text, found, held = _TEXTS[expect.kind](expect, scale), "", None
    if known:
        first, *others = (_value(rows[name], expect.measure) for name in needed)
        if expect.kind == "smaller":
            ratio = others[0] / max(first, 1e-9)
            found, held = f"{ratio:.1f} times", ratio >= expect.margin
        else:
            gap = scale.sign * (first - (others[0] if others else scale.chance))
            found = f"{scale.text(first)} against {scale.text(others[0] if others else scale.chance)}"
            held = gap < expect.margin if expect.kind == "fails" else gap >= expect.margin
    return {"text": text, "found": found, "held": held}


def _value(row: Values, measure: str) -> float:
    if measure == "score":
        return float(mean(run["score"] for run in row["runs"]))
    if measure in row:
        return float(row[measure])
    return float(mean(run[measure] for run in row["runs"]))


def _above(expect: Expect, scale: Scale) -> str:
    if expect.margin < 0:
        return f"{expect.row}: at most {scale.text(-expect.margin)} worse than {expect.other}"
    return f"{expect.row}: better than {expect.other} by {scale.text(expect.margin)} or more"


_TEXTS: dict[str, Callable[[Expect, Scale], str]] = {
    "above": _above,
    "learns": lambda expect, scale: f"{expect.row}: better than chance by {scale.text(expect.margin)} or more",
    "fails": lambda expect, scale: f"{expect.row}: not better than chance by {scale.text(expect.margin)}",
    "smaller": lambda expect, scale: (
        f"{expect.row}: {expect.margin:g} times fewer {expect.measure} than {expect.other}"
    ),
}
