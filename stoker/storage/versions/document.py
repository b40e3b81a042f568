"""Typed access to the fields of a JSON object; errors name the field."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from stoker.storage.errors import CorruptShard

T = TypeVar("T")

_SHOWN = 100  # characters of a name or number in a message
_MOST = 2**63 - 1  # what Parquet, numpy and len() hold


class Document:
    """A JSON object, and ``where`` it is stored. Every method raises CorruptShard for a missing or mistyped field."""

    def __init__(self, content: object, where: str) -> None:
        self.where = where
        if not isinstance(content, dict):
            raise CorruptShard(f"{where}: {_kind(content)}, expected a JSON object")
        self._content = content

    @property
    def content(self) -> dict[str, Any]:  # Any: JSON values
        """The object itself, unchecked."""
        return self._content

    def text(self, name: str) -> str:
        """A string."""
        return self._take(name, str, "a text")

    def whole(self, name: str) -> int:
        """An integer from 0 that 64 bits hold."""
        number = self._take(name, int, "a whole number")
        if isinstance(number, bool) or not 0 <= number <= _MOST:
            raise CorruptShard(
                f"{self.where}: {name[:_SHOWN]!r} is {str(number)[:_SHOWN]}, expected a whole number from 0 to {_MOST}"
            )
        return number

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._take(name, bool, "true or false")

    def wholes(self, name: str) -> list[int]:
        """A list of integers from 0."""
        inner = {f"{name}[{index}]": value for index, value in enumerate(self._take(name, list, "a list"))}
        return [Document(inner, self.where).whole(place) for place in inner]

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        inner = {f"{name}[{index}]": value for index, value in enumerate(self._take(name, list, "a list"))}
        return [Document(inner, self.where).text(place) for place in inner]

    def mapping(self, name: str) -> dict[str, Any]:  # Any: JSON values
        """An object, unchecked."""
        return self._take(name, dict, "an object")

    def counts(self, name: str) -> dict[str, int]:
        """An object whose values are integers from 0."""
        inner = Document(self.mapping(name), f"{self.where}: {name}")
        return {key: inner.whole(key) for key in self.mapping(name)}

    def has(self, name: str) -> bool:
        """Whether the field is present."""
        return name in self._content

    def is_null(self, name: str) -> bool:
        """Whether the field is present and null."""
        return name in self._content and self._content[name] is None

    def document(self, name: str) -> "Document":
        """An object as a Document."""
        return Document(self.mapping(name), f"{self.where}: {name}")

    def documents(self, name: str) -> "Iterator[Document]":
        """The objects of a list as Documents."""
        for index, element in enumerate(self._take(name, list, "a list")):
            yield Document(element, f"{self.where}: {name}[{index}]")

    def _take(self, name: str, kind: type[T], expected: str) -> T:
        if name not in self._content:
            raise CorruptShard(f"{self.where}: {name[:_SHOWN]!r} is missing")
        value = self._content[name]
        if not isinstance(value, kind):
            raise CorruptShard(f"{self.where}: {name[:_SHOWN]!r} is {_kind(value)}, expected {expected}")
        return value


def _kind(value: object) -> str:
    names: Mapping[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
