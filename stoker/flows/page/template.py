"""The page's templates, and the words and numbers in them. Everything is escaped; nothing foreign is marked safe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2

from stoker.flows.report import format as wording
from stoker.flows.report.samples import FACETS

PAGES = Path(__file__).parent / "templates"
_OPTION = 120  # characters of an option's value
_OPTIONS = 500  # characters of all options of a part


class Templates:
    """The templates of ``templates/``, with what every page needs."""

    def __init__(self, **everywhere: object) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PAGES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= _FILTERS
        self._environment.globals |= {"facet_columns": FACETS, **everywhere}

    def render(self, name: str, **values: object) -> str:
        """A page as HTML."""
        return self._environment.get_template(name).render(values)


def measure(value: float | None, unit: str) -> str:
    """A number with its unit.

    >>> measure(2048, "bytes"), measure(640, "px"), measure(0.5, "")
    ('2.05 kB', '640 px', '0.5')
    """
    if unit == "bytes" and value is not None:
        return wording.size_text(value)
    if value is not None and abs(value) >= 10**7:
        return f"{value / 10**6:,.4g} million"
    return wording.number_text(value) + (f" {unit}" if unit else "")


def options(given: Mapping[str, Any]) -> str:  # Any: TOML
    """The options of a source, step or rule in one line.

    >>> options({"pixels": 64, "pages": ["a", "b"]})
    'pixels = 64, pages = a, b'
    """
    said = []
    for name, value in given.items():
        text = wording.listed(map(str, value)) if isinstance(value, list | tuple) else str(value)
        said.append(f"{name} = {wording.visible(text, most=_OPTION)}")
    return wording.visible(", ".join(said), most=_OPTIONS)


def query(values: Mapping[str, object]) -> str:
    """Values as the query of an address, without empty ones.

    >>> query({"label": "a b&c", "split": "", "page": 2})
    'label=a+b%26c&page=2'
    """
    return urlencode({name: str(value) for name, value in values.items() if value not in ("", None)})


def _visible(value: object, most: int = 0) -> str:
    return wording.visible(value, most=most)


_FILTERS: Mapping[str, Any] = {  # Any: functions of many signatures
    "visible": _visible,
    "paragraphs": wording.paragraphs,
    "web_address": wording.web_address,
    "number": wording.number_text,
    "percent": wording.percent_text,
    "size": wording.size_text,
    "time": wording.time_text,
    "age": wording.age_text,
    "change": wording.change_text,
    "plural": wording.plural,
    "measure": measure,
    "options": options,
    "query": query,
}
