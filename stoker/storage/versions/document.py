"""A JSON object read field by field: a missing or mistyped one is named."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from stoker.storage.errors import CorruptShard

T = TypeVar("T")


class Document:
    """A JSON object and where it stands. Every method raises CorruptShard for a field that is missing or mistyped."""

    def __init__(self, content: object, where: str) -> None:
        self._where = where
        if not isinstance(content, dict):
            raise CorruptShard(f"{where}: {_kind(content)}, expected a JSON object")
        self._content = content

    def text(self, name: str) -> str:
        """A text."""
        return self._take(name, str, "a text")

    def whole(self, name: str) -> int:
        """A whole number, not negative."""
        found = self._take(name, int, "a whole number")
        if isinstance(found, bool) or found < 0:
            raise CorruptShard(f"{self._where}: {name!r} is {found}, expected a whole number from 0")
        return found

    def mapping(self, name: str) -> dict[str, Any]:  # Any: JSON values
        """An object, as it is."""
        return self._take(name, dict, "an object")

    def counts(self, name: str) -> dict[str, int]:
        """An object of whole numbers."""
        inner = Document(self.mapping(name), f"{self._where}: {name}")
        return {key: inner.whole(key) for key in self.mapping(name)}

    def is_null(self, name: str) -> bool:
        """Whether the field is there and null."""
        return name in self._content and self._content[name] is None

    def document(self, name: str) -> "Document":
        """An object to be read field by field."""
        return Document(self.mapping(name), f"{self._where}: {name}")

    def documents(self, name: str) -> "Iterator[Document]":
        """A list of objects to be read field by field."""
        for place, one in enumerate(self._take(name, list, "a list")):
            yield Document(one, f"{self._where}: {name}[{place}]")

    def _take(self, name: str, kind: type[T], expected: str) -> T:
        if name not in self._content:
            raise CorruptShard(f"{self._where}: {name!r} is missing")
        found = self._content[name]
        if not isinstance(found, kind):
            raise CorruptShard(f"{self._where}: {name!r} is {_kind(found)}, expected {expected}")
        return found


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
