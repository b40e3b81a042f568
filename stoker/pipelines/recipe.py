"""A recipe: the definition of a corpus, parsed from TOML and validated."""

import dataclasses
import functools
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stoker.pipelines import toml_file
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.partition import digest
from stoker.pipelines.registry import Component, find, name_of, names, plugin_identity, suggestion
from stoker.pipelines.rejected import REASONS, Reason, declared
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Provenance, Source
from stoker.pipelines.step import Step
from stoker.storage.versions import layout

T = TypeVar("T")
Positive = Annotated[int, Field(ge=1, le=10**9)]
_WHOLE = range(-(2**63), 2**63)  # whole numbers of TOML
_CORPUS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]*:[^/?#\s@]*@")
_SPLIT = re.compile(r"[a-z][a-z0-9_]{0,29}")


@dataclass(frozen=True)
class Sharding:
    """How kept samples are packed into shards: the recipe's table ``[shards]``.

    Args:
        samples: the most in one shard.
        megabytes: the most in one shard, unless a single sample is larger.
        partitions: about how many are shuffled together into one group of shards.
        seed: of the shuffled order within a group.
    """

    samples: Positive = 10_000
    megabytes: Positive = 256
    partitions: Positive = 16
    seed: int = 0


DEFAULT_SPLITS = {"train": 90, "validation": 10}  # percent


@dataclass(frozen=True)
class Limits:
    """When a version is not published: the recipe's table ``[limits]``.

    Args:
        rejected_percent: the most that may be rejected of all candidates of the source, before the rules.
    """

    rejected_percent: Annotated[float, Field(ge=0, le=100)] = 90.0


@dataclass(frozen=True)
class Memory:
    """What becomes of samples that the source has no more: the recipe's table ``[memory]``.

    Args:
        vanished: "keep" them, or "drop" them from the next version on, until the source has them again.
        vanished_percent: the most that one run drops of what the corpus holds: a source that lost more is more likely
            broken, and nothing of it is dropped.
    """

    vanished: Literal["keep", "drop"] = "keep"
    vanished_percent: Annotated[float, Field(ge=0, le=100)] = 50.0


@dataclass(frozen=True)
class Storing:
    """What is kept beside samples: the recipe's table ``[store]``.

    Args:
        originals: of each candidate also the bytes as they were fetched, so that another recipe asks no server.
    """

    originals: bool = False


@dataclass(frozen=True)
class Schedule:
    """When `stoker schedule` starts an ingest, unless its flags say another time: the recipe's table ``[schedule]``.

    Args:
        cron: five fields (minute hour day month weekday); "" for no schedule.
        timezone: IANA name of the time zone that ``cron`` is in.
        retries: how often a run is tried again that failed for a reason which may pass.
        retry_wait: how long to wait before that, such as "90s", "10m" or "2h".
    """

    cron: str = ""
    timezone: str = "UTC"
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_wait: str = "10m"


@dataclass(frozen=True)
class Recipe:
    """The definition of a corpus; ``load`` reads one from a file.

    Args:
        corpus: name of the corpus.
        source: where its candidates come from.
        steps: applied to each sample, in this order.
        rules: applied to the whole corpus, in this order.
        splits: percent by name, in the recipe's order; the sum is 100.
        shards: how samples are packed.
        limits: when a version is not published.
        provenance: default origin of every sample.
        schedule: when to ingest.
        document: the TOML that it was read from.
        root: the folder that its paths are relative to.
        memory: what becomes of samples that vanished at the source.
        store: what is kept beside samples; no part of what a version is.
    """

    corpus: str
    source: Source
    steps: tuple[Step, ...]
    rules: tuple[Rule, ...]
    splits: Mapping[str, float]
    shards: Sharding
    limits: Limits
    provenance: Provenance
    schedule: Schedule
    document: Mapping[str, Any] = field(repr=False)  # Any: TOML
    root: Path = field(repr=False, default=Path())
    memory: Memory = Memory()
    store: Storing = Storing()

    @cached_property
    def extraction(self) -> Mapping[str, Any]:
        """What determines the content of raw parts: source, steps and provenance, their options and code versions."""
        source = _identity(self.source)
        options = {name: value for name, value in source["options"].items() if name not in self.source.planning}
        return {
            "source": source | {"options": options},
            "steps": [_identity(step) for step in self.steps],
            "provenance": dataclasses.asdict(self.provenance),
        }

    @cached_property
    def extraction_digest(self) -> str:
        """Names ``extraction``: in records the column ``recipe``."""
        return digest(self.extraction)[: layout.DIGEST]

    @cached_property
    def reasons(self) -> Mapping[str, Reason]:
        """Every reason that source and steps may give: Stoker's own, and those that they declare."""
        reasons = dict(REASONS) | declared(self.source.reasons)
        for step in self.steps:
            reasons |= declared(step.reasons)
        return reasons

    @cached_property
    def curation(self) -> Mapping[str, Any]:
        """What determines which samples of the raw parts are kept, and in which split."""
        return {"rules": [_identity(rule) for rule in self.rules], "splits": list(self.splits.items())}

    @cached_property
    def digest(self) -> str:
        """Identifies the whole recipe in manifests."""
        return digest(
            {
                "corpus": self.corpus,
                "source": _identity(self.source),
                "extraction": self.extraction,
                "curation": self.curation,
                "shards": dataclasses.asdict(self.shards),
                "limits": dataclasses.asdict(self.limits),
            }
            # Tables that came later count where they say something, so that recipes without them stay the same.
            | ({"memory": dataclasses.asdict(self.memory)} if self.memory != Memory() else {})
        )


def _identity(component: Source | Step | Rule) -> dict[str, Any]:  # Any: JSON
    """Name, code version and options of a source, step or rule, and of a plug-in its distribution and class."""
    fields = dataclasses.fields(component)  # type: ignore[arg-type]  # sources, steps and rules are dataclasses
    former = component.former_defaults if isinstance(component, Source) else {}
    options = {
        field.name: former.get(field.name, value) if value == field.default else value
        for field in fields
        if (value := getattr(component, field.name)) != field.default or field.name not in component.added
    }
    json_options: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(options, mode="json")
    identity = {"name": name_of(component), "version": component.version, "options": json_options}
    return identity | plugin_identity(component)


def load(path: Path, *, only_ours: bool = False) -> Recipe:
    """The recipe in a TOML file. Raises RecipeError.

    ``only_ours`` refuses a file that belongs to another user, or that every user may write.
    """
    check = functools.partial(_check_owner, path) if only_ours else None
    try:
        document = toml_file.read(path, check=check)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe in TOML") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: a folder; expected a recipe in TOML") from None
    except PermissionError:
        raise RecipeError(f"{path}: may not be read; check its permissions") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); expected a recipe in TOML") from None
    except toml_file.TomlError as error:
        raise RecipeError(f"{path}: {error}") from None
    return parse(document, root=Path(os.path.realpath(path)).parent, where=str(path))


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Refuse a file by which another user would choose what runs, also a link of theirs to a file of ours."""
    for owner in (status.st_uid, path.lstat().st_uid):
        if owner not in (os.geteuid(), 0):
            raise RecipeError(f"{path}: belongs to another user (number {owner}), who could choose what runs; copy it")
    if status.st_mode & stat.S_IWOTH:
        raise RecipeError(f"{path}: every user may write it, and so choose what runs; chmod o-w {path}")


def parse(document: Mapping[str, Any], *, root: Path, where: str = "recipe") -> Recipe:
    """The recipe in a parsed TOML document. Raises RecipeError.

    Args:
        document: the TOML as Python values.
        root: the folder that paths in the recipe are relative to.
        where: the start of every error message, such as the file's name.

    >>> numbers = {"corpus": "numbers", "source": {"name": "local_files", "files": "data/*.png"}}
    >>> parse(numbers, root=Path()).splits
    {'train': 90, 'validation': 10}
    """
    known = ["corpus", "source", "steps", "rules", "splits", "shards", "limits", "memory", "store", "provenance"]
    known.append("schedule")
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
    source = _component(Source, document["source"], f"{where}: source")
    return Recipe(
        corpus=corpus,
        source=source,
        steps=_components(Step, document.get("steps", []), f"{where}: steps"),
        rules=rules_in(document, where),
        splits=_parse_splits(document.get("splits", DEFAULT_SPLITS), where),
        shards=_validated(Sharding, document.get("shards", {}), f"{where}: shards"),
        limits=_validated(Limits, document.get("limits", {}), f"{where}: limits"),
        memory=_validated(Memory, document.get("memory", {}), f"{where}: memory"),
        store=_storing(document.get("store", {}), source, where),
        provenance=_validated(Provenance, document.get("provenance", {}), f"{where}: provenance"),
        schedule=_validated(Schedule, document.get("schedule", {}), f"{where}: schedule"),
        document=document,
        root=root,
    )


def _storing(table: object, source: Source, where: str) -> Storing:
    storing = _validated(Storing, table, f"{where}: store")
    if storing.originals and not source.keeps_originals:
        raise RecipeError(
            f"{where}: store.originals: source {name_of(source)!r} keeps none with these options; images by their URLs "
            "do (image_urls), and files, tables and dumps are read again where they lie: leave it out"
        )
    return storing


def rules_in(document: Mapping[str, Any], where: str) -> tuple[Rule, ...]:  # Any: TOML
    """The rules of a recipe's document. Raises RecipeError."""
    return _components(Rule, document.get("rules", []), f"{where}: rules")


def _refuse_passwords(value: object, where: str) -> None:
    """Raise RecipeError for a URL with a password: a recipe is stored in manifests and shown to everybody."""
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


def _components(kind: type[Component], tables: object, where: str) -> tuple[Component, ...]:
    if not isinstance(tables, list):
        raise RecipeError(f"{where}: expected [[{where.rpartition(' ')[2]}]] tables, each with a name")
    return tuple(_component(kind, table, f"{where}[{index}]") for index, table in enumerate(tables))


def _component(kind: type[Component], table: object, where: str) -> Component:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise RecipeError(f"{where}: expected a table with a name, for example name = {names(kind)[0]!r}")
    name = table["name"]
    try:
        component = find(kind, name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return _validated(component, {key: value for key, value in table.items() if key != "name"}, where, name)


def _validated(datatype: type[T], options: object, where: str, name: str = "") -> T:
    """An instance of a dataclass from a TOML table. Raises RecipeError that names the wrong or unknown option."""
    if not isinstance(options, dict):
        raise RecipeError(f"{where}: expected a table, found {options!r}")
    known = [field.name for field in dataclasses.fields(datatype) if field.init]  # type: ignore[arg-type]  # only dataclasses come here
    for key in options:
        if key not in known:
            what = f"{name or where.rpartition(' ')[2]} has no option {key!r}"
            raise RecipeError(f"{where}: {what}; {suggestion(key, known) if known else 'it has no options'}")
        _check_numbers(options[key], f"{where}: {name}{'.' if name else ''}{key}")
    datatype.__pydantic_config__ = ConfigDict(extra="forbid", strict=False)  # type: ignore[attr-defined]  # pydantic's documented hook
    try:
        return TypeAdapter(datatype).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(key) for key in first["loc"]) or "options"
        actual = "" if first["type"] in ("missing", "missing_argument") else f", found {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{where}: {name}{'.' if name else ''}{option}: {message}{actual}") from None
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {name}: {error}") from None


def _check_numbers(value: object, where: str) -> None:
    """Raise RecipeError for a number that no option can work with: infinite, none (nan), or of more than 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where}: found {value}, expected a finite number")
    if isinstance(value, int) and value not in _WHOLE:
        raise RecipeError(f"{where}: a whole number of more than 64 bits")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for each in inner:
        _check_numbers(each, where)


def _parse_splits(table: object, where: str) -> Mapping[str, float]:
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
