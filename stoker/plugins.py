"""Look-up of sources, steps, rules and models by name: modules of a folder, and entry points of other distributions.

Two things of one name are an error and never shadow each other. What is wrong with a plug-in is one line, said when it
is loaded. Price: the first look-up reads the metadata of all installed distributions, about 20 ms for 150 of them.
"""

import dataclasses
import difflib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from stoker.storage.errors import StokerError

_VALUE = re.compile(r"\s*([\w.]+)\s*(?::\s*([\w.]+)\s*)?(?:\[.*\]\s*)?")
_MAX_TEXT = 300  # characters of another library's message
_MAX_SEARCHED = 4096  # characters of it that are searched for passwords
# User name and password of an address; a password may hold a "/" where no port stands before it.
_USER = re.compile(r"(?<=://)(?:[^/?#\s:]*:(?![0-9]{0,5}[/?#])\S*|[^/?#\s]*)@")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about a wrong name.

    >>> suggestion("lowercas", ["lowercase", "resize"])
    "did you mean 'lowercase'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


class _NotOne(StokerError):
    """A module defines no class of a kind, or several, where exactly one is expected."""


@dataclass(frozen=True, slots=True, order=True)
class Plugin:
    """An entry point: ``name`` is the name in recipes, ``value`` a module or ``module:Class``."""

    name: str
    distribution: str  # in its normal form: lower case, with hyphens
    value: str

    @property
    def target(self) -> tuple[str, str]:
        """The module's name and that of the class, "" if it names none. Both are "" for a value that is malformed."""
        match = _VALUE.fullmatch(self.value)
        return (match[1], match[2] or "") if match else ("", "")

    def __str__(self) -> str:
        return f"{self.distribution} (entry point {self.name} = {self.value})"


@dataclass(frozen=True)
class Lookup:
    """Finds the classes of one kind.

    Args:
        kind: what they are called in messages, as "step".
        group: of their entry points.
        package: of the built-in ones, each a module with one class.
        is_one: whether an object is such a class.
        problem: what is wrong with a class of a plug-in; "" if nothing is.
        error: the exception for whatever is wrong.
    """

    kind: str
    group: str
    package: str
    is_one: Callable[[object], bool]
    problem: Callable[[type], str]
    error: type[StokerError]

    def names(self) -> list[str]:
        """All names, sorted. Imports none of the classes."""
        return sorted({*self._built_in(), *(plugin.name for plugin in plugins(self.group))})

    def find(self, name: str) -> type:
        """The class of this name. Raises ``error`` if there is none or several, or if it cannot be used."""
        built_in = name in self._built_in()
        found = [plugin for plugin in plugins(self.group) if plugin.name == name]
        if built_in and not found:
            module = import_module(f"{self.package}.{name}")
            try:
                return self._only_class(module)
            except _NotOne as error:
                raise self.error(f"{self.kind} {name!r}: {error}") from None
        if not found:
            raise self.error(f"no {self.kind} is called {name!r}; {suggestion(name, self.names())}")
        if built_in or len(found) > 1:
            others = [*(["Stoker itself"] if built_in else []), *map(str, found)]
            remedy = f"uninstall {found[-1].distribution}, or have it give its {self.kind} another name"
            raise self.error(f"{self.kind} {name!r}: there is one of {' and one of '.join(others)}; {remedy}")
        return self._load(found[0])

    def plugin_of(self, part: type) -> Plugin | None:
        """The entry point that a class is found by, the same one in every process; None if it is built-in.

        It is None too for a class that no entry point names, such as one that a test defines.
        """
        return None if self._is_built_in(part) else _plugin_of(self, part, tuple(sys.path))

    def name_of(self, part: type) -> str:
        """The name by which a class is found: that of its entry point, or of its file."""
        plugin = self.plugin_of(part)
        return plugin.name if plugin else part.__module__.rpartition(".")[2]

    def identity(self, part: type) -> dict[str, str]:
        """What tells a class of a plug-in from those of the same name in other packages; empty for a built-in one.

        It is part of digests: those of built-in ones must stay what they are, or finished work is done again.
        """
        if self._is_built_in(part):
            return {}
        plugin = self.plugin_of(part)
        distribution = plugin.distribution if plugin else ""
        return {"distribution": distribution, "class": f"{part.__module__}:{part.__qualname__}"}

    def resolve(self, plugin: Plugin) -> object:
        """What an entry point names, unchecked. Raises whatever its import raises."""
        module_name, attribute = plugin.target
        module = import_module(module_name)
        return reduce(getattr, attribute.split("."), module) if attribute else self._only_class(module)

    def _built_in(self) -> list[str]:
        return [module.name for module in pkgutil.iter_modules(import_module(self.package).__path__)]

    def _is_built_in(self, part: type) -> bool:
        return part.__module__.startswith(f"{self.package}.")

    def _load(self, plugin: Plugin) -> type:
        """The plug-in's class, checked."""
        where = f"{self.kind} {plugin.name!r} of {plugin}"
        if not plugin.target[0]:
            raise self.error(f"{where}: expected the entry point to name a module, or a class as package.module:Class")
        try:
            part = self.resolve(plugin)
        except _NotOne as error:
            raise self.error(f"{where}: {error}") from None
        except (Exception, SystemExit) as error:  # an import runs code that may raise anything
            raise self.error(f"{where}: {_import_problem(plugin, error)}") from error
        if not self.is_one(part):
            actual = f"class {part.__qualname__}" if inspect.isclass(part) else f"{type(part).__name__} {part!r:.80}"
            raise self.error(f"{where}: it is {actual}, expected a class of a {self.kind}")
        found: type = part  # type: ignore[assignment]  # is_one is true of classes alone
        problem = _checked(self, found)
        if problem:
            raise self.error(f"{where}: {problem}")
        return found

    def _only_class(self, module: ModuleType) -> type:
        """The only class of this kind that a module defines. Raises _NotOne."""
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and value.__module__ == module.__name__ and self.is_one(value)
        ]
        if len(found) != 1:
            which = f" ({', '.join(part.__qualname__ for part in found)})" if found else ""
            raise _NotOne(
                f"{module.__file__}: defines {len(found)} {self.kind}s{which}, expected exactly one; "
                f"an entry point may name it, as {module.__name__}:Class"
            )
        return found[0]


def plugins(group: str) -> tuple[Plugin, ...]:
    """The entry points of a group, sorted."""
    return _plugins(group, tuple(sys.path))


@lru_cache(maxsize=32)
def _plugins(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """``plugins`` for this ``sys.path``."""
    found = set()
    for point in entry_points(group=group):
        distribution = point.dist.name if point.dist is not None else ""
        found.add(Plugin(point.name, re.sub(r"[-_.]+", "-", distribution).lower(), point.value))
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def _plugin_of(lookup: Lookup, part: type, path: tuple[str, ...]) -> Plugin | None:
    """See Lookup.plugin_of. Of several names for one class the first counts, whichever a recipe used."""
    offered = plugins(lookup.group)
    for plugin in offered:
        module, attribute = plugin.target
        if module == part.__module__ and attribute in ("", part.__qualname__):
            return plugin
    for plugin in offered:  # it may be defined in another module than the entry point names
        try:
            if lookup.resolve(plugin) is part:
                return plugin
        except (Exception, SystemExit):  # noqa: BLE001, S112  # another one that is broken: reported when it is used
            continue
    return None


@lru_cache(maxsize=256)
def _checked(lookup: Lookup, part: type) -> str:
    return lookup.problem(part)


def one_line(error: BaseException) -> str:
    """An exception's type and message, without user names and passwords of addresses in it.

    >>> one_line(OSError("no route to https://me:secret@example.org/a"))
    'OSError: no route to https://…@example.org/a'
    """
    return f"{type(error).__name__}: {without_user(' '.join(str(error).split())[:_MAX_SEARCHED])[:_MAX_TEXT]}".rstrip(
        ": "
    )


def without_user(text: str) -> str:
    """A text without the user names and passwords of the addresses in it, also of those that hold an unescaped @ or /.

    >>> without_user("mysql://me:p@ss/word@example.org/a")
    'mysql://…@example.org/a'
    >>> without_user("http://example.org:80/i@2.png http://example.org/i@2.png")
    'http://example.org:80/i@2.png http://example.org/i@2.png'
    """
    return _USER.sub("…@", text)


def _import_problem(plugin: Plugin, error: BaseException) -> str:
    module, attribute = plugin.target
    missing = (error.name or "") if isinstance(error, ImportError) else ""
    if isinstance(error, ModuleNotFoundError) and (module == missing or module.startswith(f"{missing}.")):
        return f"there is no module {missing!r} ({one_line(error)}); install {plugin.distribution} again"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_foreign(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, AttributeError) and not frames:
        near = [name for name, value in vars(import_module(module)).items() if inspect.isclass(value)]
        return f"module {module} has no {attribute!r}; {suggestion(attribute, near)}"
    if missing.partition(".")[0] == "stoker":
        remedy = "it was written for another version of Stoker, whose CHANGELOG says under Breaking what moved"
    elif isinstance(error, ModuleNotFoundError):
        remedy = f"install what {plugin.distribution} needs"
    else:
        remedy = f"`{Path(sys.executable).name} -c 'import {module}'` shows where it fails"
    return f"its import fails: {one_line(error)}{place}; {remedy}"


def _is_foreign(filename: str) -> bool:
    """Whether a frame is of a plug-in, and not of this module or of Python's import."""
    return filename != __file__ and "importlib" not in filename


def method_problem(
    part: type, base: type, required: Iterable[str], optional: Iterable[str] = (), *, kind: str = ""
) -> str:
    """What is wrong with the methods of a class, each of which must take the arguments of the base's; "" if nothing.

    >>> class Base:
    ...     def read(self, place): ...
    >>> class Part(Base):
    ...     def read(self): ...
    >>> method_problem(Part, Base, ["read"])
    'class Part has read(self), expected read(self, place)'
    """
    name = part.__qualname__
    abstract = sorted(getattr(part, "__abstractmethods__", ()))
    if abstract:
        return f"class {name} leaves {', '.join(abstract)} abstract; define {'them' if len(abstract) > 1 else 'it'}"
    for method in (*required, *optional):
        inherited, own = inspect.getattr_static(base, method), inspect.getattr_static(part, method, None)
        if own is None or own is inherited:
            if method in required:
                public = [other for other, value in vars(part).items() if inspect.isfunction(value) and other[0] != "_"]
                there = f"; it has: {', '.join(public)}" if public else ""
                return f"class {name} has no {method}{_shown(inherited)}, which every {kind or 'one'} needs{there}"
            continue
        function = getattr(own, "__func__", own)  # of a static method or a class method
        if not callable(function):
            return f"class {name} has {method!r} as an attribute, expected {method}{_shown(inherited)}"
        if not _accepts(function, inherited, bound=not isinstance(own, staticmethod)):
            return f"class {name} has {method}{_shown(function)}, expected {method}{_shown(inherited)}"
    return ""


def _accepts(function: Callable[..., Any], base: Callable[..., Any], *, bound: bool) -> bool:  # Any: any method's
    """Whether a function can be called as the base's method is; keyword-only parameters are given by name."""
    _, *parameters = inspect.signature(base).parameters.values()
    named = {one.name: None for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*[None] * (len(parameters) - len(named) + bound), **named)
    except ValueError:  # a function of C without a signature
        return True
    except TypeError:
        return False
    return True


def _shown(function: Callable[..., Any]) -> str:  # Any: any method's
    """A function's parameters without their types."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def dataclass_problem(part: type) -> str:
    """What keeps the fields of a class from being its options; "" if nothing does."""
    params: Any = getattr(part, "__dataclass_params__", None)  # Any: dataclasses has no type for it
    name, remedy = part.__qualname__, "write @dataclass(frozen=True) above it: its fields are the options"
    if params is None or not params.frozen:
        return f"class {name} is no {'frozen dataclass' if params else 'dataclass'}; {remedy}"
    if "__dataclass_params__" not in vars(part):
        known = {field.name for field in dataclasses.fields(part)}
        for option, annotation in inspect.get_annotations(part).items():
            if option not in known and "ClassVar" not in str(annotation):
                return f"class {name} has an option {option!r}, but is no dataclass itself; {remedy}"
    return ""
