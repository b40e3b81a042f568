"""What sources, steps, rules and models say of themselves: options with type, default and meaning, and an example.

All comes from the class: its fields, and its docstring with the block ``Args:`` and the example after ``Example::``.
Models are read as source text, because importing one imports torch, which takes seconds.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import stoker

KINDS = ("source", "step", "rule", "model")
_ROOT = Path(stoker.__file__).parent
_FOLDERS = {
    "source": "pipelines/sources",
    "step": "pipelines/steps",
    "rule": "pipelines/rules",
    "model": "training/models",
}
_OPTION = re.compile(r"([a-z]\w*(?:, [a-z]\w*)*)(?: \([^)]*\))?: (.*)")
_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}
_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_WITHOUT_FIELDS = {"ImageClassifier"}  # classes that models extend, and which have no options
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


@dataclass(frozen=True)
class Option:
    """An option; ``default`` is None for one that must be given."""

    name: str
    type: str
    default: str | None
    meaning: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A source, step, rule or model; ``defaults`` are a model's own for options of every training."""

    kind: str
    name: str
    text: str
    options: tuple[Option, ...]
    example: str
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)


def names(kind: str) -> list[str]:
    """The names of a kind, sorted; imports none of them."""
    import pkgutil

    from stoker.plugins import plugins

    built_in = [module.name for module in pkgutil.iter_modules([str(_ROOT / _FOLDERS[kind])])]
    return sorted({*built_in, *(plugin.name for plugin in plugins(f"stoker.{kind}s"))})


def summary(kind: str, name: str) -> str:
    """The first line of the file of a part; "" where it has none."""
    path, _ = _source(kind, name)
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None
    return (text or "").partition("\n")[0].replace("``", "`").rstrip(".")


def describe(kind: str, name: str) -> Part:
    """All about a part. Raises StokerError for a name that is not there, and for a plug-in that cannot be used."""
    if kind == "model":
        path, class_name = _source(kind, name)
        found = _from_source(path, class_name) if path else None
        if found is not None:
            return dataclasses.replace(found, kind=kind, name=name)
    part = _find(kind, name)
    hints = get_type_hints(part, include_extras=True)
    fields = []
    for field in dataclasses.fields(part):
        if field.init:
            factory = field.default_factory
            fields.append((field.name, hints[field.name], factory() if callable(factory) else field.default))
    return _part(kind, name, inspect.getdoc(part) or "", fields, getattr(part, "defaults", {}))


def training_options() -> tuple[Option, ...]:
    """The options of every training; imports nothing of it."""
    found = _from_source(_ROOT / "training/run/options.py", "TrainOptions")
    return found.options if found else ()


def _find(kind: str, name: str) -> Any:  # Any: a dataclass
    if kind == "model":
        from stoker.flows.start import require_torch

        with require_torch():
            from stoker.training.run import model as models

            return models.find(name)
    from stoker.pipelines import registry
    from stoker.pipelines.rule import Rule
    from stoker.pipelines.source import Source
    from stoker.pipelines.step import Step

    if kind == "source":
        return registry.find(Source, name)
    return registry.find(Step, name) if kind == "step" else registry.find(Rule, name)


def _source(kind: str, name: str) -> tuple[Path | None, str]:
    """The file of a part, if it is known without importing, and its class there, "" for the only one."""
    from importlib.util import find_spec

    from stoker.plugins import plugins

    path = _ROOT / _FOLDERS[kind] / f"{name}.py"
    if path.is_file():
        return path, ""
    for plugin in plugins(f"stoker.{kind}s"):
        if plugin.name == name:
            module, class_name = plugin.target
            try:
                spec = find_spec(module)
            except Exception:  # of the package around the module: whoever uses the part is told
                return None, ""
            if spec is not None and spec.origin and spec.origin.endswith(".py"):
                return Path(spec.origin), class_name
    return None, ""


def _from_source(path: Path, class_name: str) -> Part | None:
    """A part from its source text; None where that does not tell all."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef) and _is_meant(node, class_name)]
    if len(classes) != 1 or not {ast.unparse(base) for base in classes[0].bases} <= _WITHOUT_FIELDS:
        return None
    fields: list[tuple[str, Any, object]] = []  # Any: types
    defaults: dict[str, object] = {}
    for node in classes[0].body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation):
            if node.target.id == "defaults" and node.value is not None:
                defaults = dict(ast.literal_eval(node.value))
            continue
        kind = _type_of(node.annotation)
        if kind is None:
            return None
        try:
            default = dataclasses.MISSING if node.value is None else ast.literal_eval(node.value)
        except ValueError:
            return None
        fields.append((node.target.id, kind, default))
    return _part("", "", ast.get_docstring(classes[0]) or "", fields, defaults)


def _is_meant(node: ast.ClassDef, class_name: str) -> bool:
    methods = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return node.name == class_name if class_name else bool(methods & {"compute_loss", "build"})


def _type_of(annotation: ast.expr) -> Any:  # Any: a type; None: not told by the text alone
    if isinstance(annotation, ast.Name):
        return _PLAIN.get(annotation.id)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        return Literal[ast.literal_eval(annotation.slice)]
    return None


def _part(
    kind: str, name: str, doc: str, fields: Sequence[tuple[str, Any, object]], defaults: Mapping[str, object]
) -> Part:  # Any: types
    head, _, example = doc.partition("Example::")
    text, _, block = head.partition("\nArgs:\n")
    text = re.sub(r"\n *>>>.*", "", text, flags=re.DOTALL)
    meanings = _meanings(block)
    options = []
    for option, hint, default in fields:
        choices = tuple(get_args(hint)) if get_origin(hint) is Literal else ()
        shown = None if default is dataclasses.MISSING else _value_text(default)
        options.append(Option(option, type_text(hint), shown, meanings.get(option, ""), choices))
    return Part(kind, name, text.replace("``", "`").strip(), tuple(options), inspect.cleandoc(example), defaults)


def _meanings(block: str) -> dict[str, str]:
    """Option → meaning, from the lines of a block ``Args:``."""
    found: dict[str, str] = {}
    names_of_last: list[str] = []
    for line in inspect.cleandoc(block).splitlines():
        match = _OPTION.fullmatch(line)
        if match:
            names_of_last = match[1].split(", ")
            found |= dict.fromkeys(names_of_last, match[2])
        elif line.startswith(" ") and names_of_last:
            found |= {name: f"{found[name]} {line.strip()}" for name in names_of_last}
        else:
            names_of_last = []
    return {name: meaning.replace("``", "`") for name, meaning in found.items()}


def type_text(hint: Any) -> str:  # Any: a type
    """A type in words.

    >>> type_text(Literal["jpg", "png"]), type_text(str | tuple[str, ...]), type_text(bool)
    ('"jpg" or "png"', 'text or list of text', 'true or false')
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(inner[0]) + _bounds_text(hint.__metadata__)
    if origin is Literal:
        texts = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in inner]
        return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
    if origin in (tuple, list):
        return f"list of {type_text(inner[0])}"
    if inner and origin is not dict and not isinstance(hint, type):
        return " or ".join(type_text(each) for each in inner if each is not type(None))
    return _NAMES.get(hint, "table" if origin is not None else getattr(hint, "__name__", str(hint)))


def _bounds_text(metadata: Sequence[object]) -> str:
    constraints = [inner for each in metadata for inner in getattr(each, "metadata", [each])]
    found = [
        f"{word} {getattr(each, name):,.10g}" for each in constraints for name, word in _BOUNDS if hasattr(each, name)
    ]
    return f", {' and '.join(found)}" if found else ""


def _value_text(value: object) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value_text, value))}]"
    return str(value)
