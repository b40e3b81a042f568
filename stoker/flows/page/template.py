"""The HTML templates and their filters. Everything is escaped; untrusted text is never marked safe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2

from stoker.flows.report import format as text_format
from stoker.flows.report.columns import NumberColumn
from stoker.flows.report.samples import FACETS
from stoker.storage.plural import plural

PAGES = Path(__file__).parent / "templates"
_MAX_OPTION = 120  # characters of an option's value
_MAX_OPTIONS = 500  # characters of all options of a source, step or rule


class Templates:
    """The templates in ``templates/``; ``variables`` are available in all of them."""

    def __init__(self, **variables: object) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PAGES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= _FILTERS
        self._environment.globals |= {"facet_columns": FACETS, **variables}

    def render(self, name: str, **values: object) -> str:
        """A page as HTML."""
        return self._environment.get_template(name).render(values)


def measure(value: float | None, unit: str) -> str:
    """A number with its unit.

    >>> measure(2048, "bytes"), measure(640, "px"), measure(0.5, ""), measure(2**53, "")
    ('2.05 kB', '640 px', '0.5', '9.007e15')
    """
    if unit == "bytes" and value is not None:
        return text_format.size_text(value)
    if value is not None and 10**7 <= abs(value) < 10**9:
        return f"{value / 10**6:,.4g} million"
    if value is not None and abs(value) >= 10**9:
        return f"{value:.4g}".replace("e+", "e") + (f" {unit}" if unit else "")
    return text_format.number_text(value) + (f" {unit}" if unit else "")


def median(column: NumberColumn) -> str:
    """The median of a column with its unit, after "~" if it is not exact."""
    return ("" if column.median_error == 0 else "~") + measure(column.median, column.unit)


def options(values: Mapping[str, Any]) -> str:  # Any: TOML
    """The options of a source, step or rule in one line.

    >>> options({"pixels": 64, "pages": ["a", "b"]})
    'pixels = 64, pages = a, b'
    """
    texts = []
    for name, value in values.items():
        text = text_format.listed(map(str, value)) if isinstance(value, list | tuple) else str(value)
        texts.append(f"{name} = {text_format.visible(text, most=_MAX_OPTION)}")
    return text_format.visible(", ".join(texts), most=_MAX_OPTIONS)


def query(values: Mapping[str, object]) -> str:
    """Values as the query string of a URL, without empty ones.

    >>> query({"label": "a b&c", "split": "", "page": 2})
    'label=a+b%26c&page=2'
    """
    return urlencode({name: str(value) for name, value in values.items() if value not in ("", None)})


def _visible(value: object, most: int = 0) -> str:
    return text_format.visible(value, most=most)


_FILTERS: Mapping[str, Any] = {  # Any: functions of many signatures
    "visible": _visible,
    "paragraphs": text_format.paragraphs,
    "web_address": text_format.web_address,
    "number": text_format.number_text,
    "percent": text_format.percent_text,
    "size": text_format.size_text,
    "time": text_format.time_text,
    "age": text_format.age_text,
    "change": text_format.change_text,
    "plural": plural,
    "measure": measure,
    "median": median,
    "options": options,
    "query": query,
}
