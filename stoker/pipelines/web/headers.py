"""``Headers``: the headers of a response, by name, and line by line where joining would change what they say."""

from collections.abc import Iterator, Mapping, Sequence


class Headers(Mapping[str, str]):
    """Values by name in lower case; those of a name on several lines are joined by commas (RFC 9110, 5.3).

    Joined values are right for lists alone, such as Content-Encoding. In others a line is a whole of its own: a robot's
    name in X-Robots-Tag counts to the end of its line. ``lines`` gives each for itself, ``single`` the value of a
    header that can have only one.

    >>> headers = Headers({"x-robots-tag": ["googlebot: noindex", "noai"], "etag": ['"a"', '"a"']})
    >>> headers["x-robots-tag"], headers.lines("x-robots-tag"), headers.single("etag")
    ('googlebot: noindex, noai', ('googlebot: noindex', 'noai'), '"a"')
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Mapping[str, Sequence[str]]) -> None:
        self._lines = {name: tuple(values) for name, values in lines.items()}

    def lines(self, name: str) -> tuple[str, ...]:
        """The value of each line of this name, in order; none if there is none."""
        return self._lines.get(name, ())

    def single(self, name: str) -> str:
        """The value that all lines of this name have; "" if there is none, or if they differ."""
        values = set(self.lines(name))
        return values.pop() if len(values) == 1 else ""

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._lines[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)
