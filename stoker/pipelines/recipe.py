"""A recipe: what a corpus is, read from TOML and checked."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.partition import digest
from stoker.pipelines.registry import Part, find, name_of, names, suggestion
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Provenance, Source
from stoker.pipelines.step import Step

T = TypeVar("T")
Positive = Annotated[int, Field(ge=1)]
_CORPUS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]*:[^/?#\s@]*@")
_SPLIT = re.compile(r"[a-z][a-z0-9_]{0,29}")


@dataclass(frozen=True)
class Sharding:
    """How kept samples are packed into shards."""

    samples: Positive = 10_000  # at most, in one shard
    megabytes: Positive = 256  # at most, unless one sample alone is larger
    partitions: Positive = 16  # about so many are shuffled together into one group of shards
    seed: int = 0  # of the order inside a group


@dataclass(frozen=True)
class Limits:
    """When a version is not to be trusted, and is not published."""

    rejected_percent: Annotated[float, Field(ge=0, le=100)] = 90.0  # of all candidates of the sources, before the rules


@dataclass(frozen=True)
class Schedule:
    """When to ingest by itself, if `stoker schedule` is given no time."""

    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Recipe:
    """What a corpus is. ``document`` is the TOML it was read from, ``root`` the folder its paths are relative to."""

    corpus: str
    source: Source
    steps: tuple[Step, ...]
    rules: tuple[Rule, ...]
    splits: Mapping[str, float]  # percent by name, in the recipe's order, together 100
    shards: Sharding
    limits: Limits
    provenance: Provenance
    schedule: Schedule
    document: Mapping[str, Any] = field(repr=False)  # Any: TOML
    root: Path = field(repr=False, default=Path())

    @cached_property
    def extraction(self) -> Mapping[str, Any]:
        """What decides a raw part's content: source, steps, provenance; their options and code versions."""
        source = _identity(self.source)
        options = {name: value for name, value in source["options"].items() if name not in self.source.planning}
        return {
            "source": source | {"options": options},
            "steps": [_identity(step) for step in self.steps],
            "provenance": dataclasses.asdict(self.provenance),
        }

    @cached_property
    def curation(self) -> Mapping[str, Any]:
        """What decides which samples of the raw parts are kept, and in which split."""
        return {"rules": [_identity(rule) for rule in self.rules], "splits": list(self.splits.items())}

    @cached_property
    def digest(self) -> str:
        """Stands for the whole recipe in manifests."""
        return digest(
            {
                "corpus": self.corpus,
                "source": _identity(self.source),
                "extraction": self.extraction,
                "curation": self.curation,
                "shards": dataclasses.asdict(self.shards),
                "limits": dataclasses.asdict(self.limits),
            }
        )


def _identity(part: Source | Step | Rule) -> dict[str, Any]:
    options = {one.name: getattr(part, one.name) for one in dataclasses.fields(part)}  # type: ignore[arg-type]  # parts are dataclasses: find() checks
    plain: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(options, mode="json")
    return {"name": name_of(part), "version": part.version, "options": plain}


def load(path: Path) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe in TOML") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: a folder; expected a recipe in TOML") from None
    except PermissionError:
        raise RecipeError(f"{path}: may not be read; check its permissions") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 (byte {error.start}); expected a recipe in TOML") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    return parse(document, root=path.resolve().parent, where=str(path))


def parse(document: Mapping[str, Any], *, root: Path, where: str = "recipe") -> Recipe:
    """The recipe in a parsed TOML document; ``where`` begins each message. Raises RecipeError."""
    known = ["corpus", "source", "steps", "rules", "splits", "shards", "limits", "provenance", "schedule"]
    for key in document:
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}; {suggestion(key, known)}")
    for key in ("corpus", "source"):
        if key not in document:
            raise RecipeError(f"{where}: {key!r} is missing; every recipe needs it")
    _refuse_passwords(document, where)
    corpus = document["corpus"]
    if not isinstance(corpus, str) or not _CORPUS.fullmatch(corpus):
        raise RecipeError(f"{where}: corpus {corpus!r}; expected 1 to 63 of a-z 0-9 _ -, beginning with a-z or 0-9")
    return Recipe(
        corpus=corpus,
        source=_part(Source, document["source"], f"{where}: source"),
        steps=_parts(Step, document.get("steps", []), f"{where}: steps"),
        rules=_parts(Rule, document.get("rules", []), f"{where}: rules"),
        splits=_splits(document.get("splits", {"train": 90, "validation": 10}), where),
        shards=_checked(Sharding, document.get("shards", {}), f"{where}: shards"),
        limits=_checked(Limits, document.get("limits", {}), f"{where}: limits"),
        provenance=_checked(Provenance, document.get("provenance", {}), f"{where}: provenance"),
        schedule=_checked(Schedule, document.get("schedule", {}), f"{where}: schedule"),
        document=document,
        root=root,
    )


def _refuse_passwords(value: object, where: str) -> None:
    """A recipe is kept in manifests and shown to everybody. Raises RecipeError."""
    if isinstance(value, str) and _PASSWORD.search(value):
        raise RecipeError(
            f"{where}: an address with a password in it; recipes are published with their corpora, so serve the data "
            "without one, or download them first"
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_passwords(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _refuse_passwords(inner, where)


def _parts(kind: type[Part], tables: object, where: str) -> tuple[Part, ...]:
    if not isinstance(tables, list):
        raise RecipeError(f"{where}: expected [[{where.rpartition(' ')[2]}]] tables, each with a name")
    return tuple(_part(kind, table, f"{where}[{place}]") for place, table in enumerate(tables))


def _part(kind: type[Part], table: object, where: str) -> Part:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise RecipeError(f"{where}: expected a table with a name, for example name = {_example(kind)!r}")
    try:
        found = find(kind, table["name"])
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return _checked(found, {key: value for key, value in table.items() if key != "name"}, where, table["name"])


def _example(kind: type[Part]) -> str:
    return names(kind)[0]


def _checked(made: type[T], options: object, where: str, name: str = "") -> T:
    """An instance of a dataclass from a TOML table, every wrong or unknown option named."""
    if not isinstance(options, dict):
        raise RecipeError(f"{where}: expected a table, found {options!r}")
    known = [one.name for one in dataclasses.fields(made) if one.init]  # type: ignore[arg-type]  # only dataclasses come here
    for key in options:
        if key not in known:
            what = f"{name or where.rpartition(' ')[2]} has no option {key!r}"
            raise RecipeError(f"{where}: {what}; {suggestion(key, known) if known else 'it has no options'}")
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=False)  # type: ignore[attr-defined]  # pydantic's documented hook
    try:
        return TypeAdapter(made).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"]) or "options"
        found = "" if first["type"] in ("missing", "missing_argument") else f", found {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{where}: {name}{'.' if name else ''}{option}: {message}{found}") from None
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {name}: {error}") from None


def _splits(table: object, where: str) -> Mapping[str, float]:
    if not isinstance(table, dict) or not table:
        raise RecipeError(f"{where}: splits: expected percentages by name, for example train = 90, validation = 10")
    for name, percent in table.items():
        if not _SPLIT.fullmatch(name):
            raise RecipeError(f"{where}: splits: {name!r}; expected a short lower-case word such as 'validation'")
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
            raise RecipeError(f"{where}: splits.{name}: found {percent!r}, expected 0 to 100 percent")
    if abs(sum(table.values()) - 100) > 1e-9:
        raise RecipeError(f"{where}: splits add up to {sum(table.values()):g}, expected 100 percent")
    return dict(table)
