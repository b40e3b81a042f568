"""Settings of Sphinx: pages from the README and the docstrings. In `make docs` a warning is an error."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import stoker
from stoker.pipelines import registry
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.training.run import model

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Stoker"
author = copyright = "the authors of Stoker"  # noqa: A001  # Sphinx's own name
version = release = stoker.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
myst_heading_anchors = 3
# Links of the README to files that are no pages, such as recipes: they are shown as text.
suppress_warnings = ["myst.xref_missing"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Stoker {version}"
html_show_sphinx = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
pygments_style = "friendly"
nitpicky = False  # types of other projects have no page here


def _directive(kind: str, name: str, *options: str) -> str:
    lines = [f".. {kind}:: {name}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *lines, "```", ""])


def _parts(find: Callable[[str], type], names: list[str]) -> str:
    """A section for each source, step, rule or model: the docstring of its class, under the name in recipes."""
    sections = []
    for name in names:
        part = find(name)
        sections += [f"### {name}", "", _directive("autoclass", f"{part.__module__}.{part.__qualname__}", "no-index")]
    return "\n".join(sections)


def _members(package: str) -> str:
    """Everything in a package's ``__all__``, where it is offered."""
    texts = []
    for name in import_module(package).__all__:
        value = getattr(import_module(package), name)
        if isinstance(value, type):
            twice = ["no-index"] if package == "stoker" and value.__module__.startswith("stoker.training") else []
            texts.append(_directive("autoclass", f"{package}.{name}", "members", *twice))
        elif callable(value):
            texts.append(_directive("autofunction", f"{package}.{name}"))
    return "\n".join(texts)


def _fill(app: "Sphinx", page: str, source: list[str]) -> None:
    """Put what the code says in place of {{ ... }} on a page."""
    parts: dict[str, Callable[[], str]] = {
        "sources": lambda: _parts(lambda name: registry.find(Source, name), registry.names(Source)),
        "steps": lambda: _parts(lambda name: registry.find(Step, name), registry.names(Step)),
        "rules": lambda: _parts(lambda name: registry.find(Rule, name), registry.names(Rule)),
        "models": lambda: _parts(model.find, model.names()),
        **{package: lambda package=package: _members(package) for package in _PACKAGES},  # type: ignore[misc]  # bound
    }
    for name, text in parts.items():
        if f"{{{{ {name} }}}}" in source[0]:
            source[0] = source[0].replace(f"{{{{ {name} }}}}", text())


def _shorten(app: "Sphinx", kind: str, name: str, offered: object, *texts: object) -> tuple[str, str] | None:
    """No signature above the options of a part, which a recipe names: its docstring has them with their types."""
    is_part = kind == "class" and name.startswith(("stoker.pipelines.", "stoker.training.models."))
    return ("", "") if is_part else None


_PACKAGES = ("stoker", "stoker.storage", "stoker.training", "stoker.testing")


def setup(app: "Sphinx") -> None:
    """Called by Sphinx."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _shorten)
