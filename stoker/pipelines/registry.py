"""Sources, steps and rules, looked up by the name of their file or entry point."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rejected import REASONS, Reason, declared
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.plugins import Lookup, dataclass_problem, method_problem, one_line
from stoker.plugins import suggestion as suggestion
from stoker.storage.errors import StokerError
from stoker.storage.versions.memory.outcome_class import KNOWN

Component = TypeVar("Component", Source, Step, Rule)
_REQUIRED: dict[type, tuple[str, ...]] = {
    Source: ("partitions", "read"),
    Step: ("__call__",),
    Rule: ("decide",),
}

_OPTIONAL: dict[type, tuple[str, ...]] = {Source: ("check", "preview"), Rule: ("needed_columns",)}


def names(kind: type[Component]) -> list[str]:
    """The names that a recipe may use, sorted. No component is imported.

    >>> "exact_duplicates" in names(Rule)
    True
    """
    return _LOOKUPS[kind].names()


def find(kind: type[Component], name: str) -> type[Component]:
    """The class called ``name`` in recipes. Raises RecipeError with the nearest right name, or with its fault."""
    return cast(type[Component], _LOOKUPS[kind].find(name))  # what is found there is a class of this kind


def name_of(component: Source | Step | Rule) -> str:
    """The name that a source, step or rule has in recipes: that of its entry point, or of its file."""
    return _lookup_of(component).name_of(type(component))


def plugin_identity(component: Source | Step | Rule) -> dict[str, str]:
    """Distribution and class of a plug-in's source, step or rule, for digests; empty for a built-in one."""
    return _lookup_of(component).identity(type(component))


def reasons_of(recipe: Mapping[str, Any]) -> dict[str, Reason]:  # Any: TOML, of a manifest: not parsed
    """Every reject reason of a recipe: Stoker's own, and what its source, steps and rules declare.

    One that is not installed adds nothing, so that a version can be shown on a machine that cannot ingest it.
    """
    known = dict(REASONS)
    for name in _names(recipe.get("source")):
        known |= _declared(Source, name)
    for name in _names(recipe.get("steps")):
        known |= _declared(Step, name)
    for name in _names(recipe.get("rules")):
        known |= _declared(Rule, name)
    return _chosen(recipe.get("rules")) | known


def _chosen(rules: object) -> dict[str, Reason]:
    """The reasons that options of rules name."""
    chosen = {}
    for table in rules if isinstance(rules, list | tuple) else ():
        for name in _names(table):
            try:
                rule = find(Rule, name)
            except (StokerError, ImportError):
                continue
            for option, meaning in rule.reason_options.items():
                chosen[str(table.get(option, getattr(rule, option)))] = Reason(meaning)
    return chosen


def _names(tables: object) -> list[str]:
    tables = tables if isinstance(tables, list | tuple) else [tables]
    return [str(table["name"]) for table in tables if isinstance(table, Mapping) and "name" in table]


def _declared(kind: type[Component], name: str) -> dict[str, Reason]:
    try:
        return declared(find(kind, name).reasons)
    except (StokerError, ImportError):
        return {}


def component_problem(kind: type, part: type) -> str:
    """What is wrong with a class of a source, step or rule, as its expectation and what was found; "" if nothing is."""
    return (
        (_old_rule_problem(part) if kind is Rule else "")
        or method_problem(part, kind, _REQUIRED[kind], _OPTIONAL.get(kind, ()), kind=kind.__name__.lower())
        or dataclass_problem(part)
        or _option_problem(part)
        or _reason_problem(part)
        or (_column_problem(part) if kind is Rule else "")
    )


def _reason_problem(part: Any) -> str:  # Any: a class of a plug-in
    """What is wrong with the reasons that it declares; "" if nothing is."""
    if not isinstance(part.reasons, Mapping):
        return f"class {part.__qualname__} has `reasons` of type {type(part.reasons).__name__}, expected a mapping"
    if KNOWN in part.reasons:
        return f"class {part.__qualname__} declares the reason {KNOWN!r}, which stands for unchanged candidates"
    for word, reason in part.reasons.items():
        if not isinstance(reason, str | Reason):
            found = f"{type(reason).__name__} {reason!r:.80}"
            return f"class {part.__qualname__}: its reason {word!r} is {found}, expected a text or a Reason"
    return ""


def _old_rule_problem(part: type) -> str:
    """How a rule that was written for Stoker 0.1.0 is changed; "" for another."""
    method = getattr(part, "decide", None)
    if inspect.isfunction(method) and "split_of" in inspect.signature(method).parameters:
        return (
            f"class {part.__qualname__} has decide(self, records, split_of), as rules had until Stoker 0.1.0; write "
            "decide(self, rows, tools), name the columns that it reads in `columns`, and return decisions(...) of "
            "stoker.pipelines.rule; split_of is tools.split_of"
        )
    if inspect.isgeneratorfunction(method):
        return f"class {part.__qualname__} yields in decide, expected it to return a table, as decisions(...) makes it"
    return ""


def _column_problem(part: Any) -> str:  # Any: a dataclass
    """What is wrong with the columns that a rule names; "" if nothing is."""
    options = {option.name for option in dataclasses.fields(part)}
    for attribute in ("columns", "optional_columns"):
        if attribute in options:
            return f"class {part.__qualname__} has an option {attribute!r}, which is the name of what lists its columns"
        names = getattr(part, attribute)
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            return (
                f'class {part.__qualname__} has {attribute} = {names!r:.80}, expected a tuple of names, as ("author",)'
            )
    return ""


def _option_problem(part: Any) -> str:  # Any: a dataclass
    """What is wrong with the types of the options; "" if TOML can give them and a digest can hold them."""
    try:
        hints = get_type_hints(part, include_extras=True)
    except Exception as error:  # noqa: BLE001  # annotations are expressions, which may raise anything
        return f"the types of its options cannot be read: {one_line(error)}; import them where it is defined"
    options = [option for option in dataclasses.fields(part) if option.init]
    for option in options:
        where = f"option {option.name!r} of class {part.__qualname__}"
        try:
            schema = TypeAdapter(hints[option.name]).json_schema()
        except PydanticUserError:
            return f"{where} has a type that TOML cannot give; expected text, numbers, true or false, lists or tables"
        if '"uniqueItems": true' in json.dumps(schema):
            return f"{where} is a set, whose order differs between processes; expected a tuple"
        default = option.default_factory() if callable(option.default_factory) else option.default
        try:
            if default is not dataclasses.MISSING:
                TypeAdapter(dict[str, Any]).dump_python({option.name: default}, mode="json")
        except PydanticSerializationError:
            return f"{where} has a default that TOML cannot give ({type(default).__name__}); expected one that it can"
    named_options = {"added": part.added} if issubclass(part, Source | Step | Rule) else {}
    if issubclass(part, Source | Rule):
        named_options |= {"path_options": part.path_options or frozenset()}
    if issubclass(part, Source):
        named_options |= {"planning": part.planning}
    if named_options:
        known = {option.name for option in options}
        if "added" in known:
            return f"class {part.__qualname__} has an option 'added', which is the name of what lists later options"
        for attribute, named in named_options.items():
            unknown = sorted(set(named) - known)
            if unknown:
                return f"class {part.__qualname__} has no option {unknown[0]!r}, which its `{attribute}` names"
    return ""


def _is_one(kind: type, value: object) -> bool:
    return isinstance(value, type) and issubclass(value, kind) and value is not kind


def _lookup(kind: type) -> Lookup:
    word = kind.__name__.lower()
    return Lookup(
        kind=word,
        group=f"stoker.{word}s",
        package=f"stoker.pipelines.{word}s",
        is_one=partial(_is_one, kind),
        problem=partial(component_problem, kind),
        error=RecipeError,
    )


_LOOKUPS: dict[type, Lookup] = {kind: _lookup(kind) for kind in _REQUIRED}


def _lookup_of(component: Source | Step | Rule) -> Lookup:
    return next(lookup for kind, lookup in _LOOKUPS.items() if isinstance(component, kind))
