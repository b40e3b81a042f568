"""Lines on standard error: notes for the person at the terminal, and the log of the logging tree ``stoker.*``.

The package logs and configures nothing, so it is silent in a program of somebody else; commands and services call
``configure``. In the format "json" every line is one object: ``time``, ``level``, ``logger``, ``message``, and the
fields that the call gave by ``extra``. Control characters are escaped. What looks like a secret (a password in a URL,
a signature, a token in a query) is replaced: by its form alone, so do not log secrets.
"""

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TextIO

from stoker.flows import signals

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_ROOT = "stoker"
_NOTE = "stoker_note"  # attribute of a record that is shown at every level but "error"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", _NOTE}
_HIDDEN = "***"
_SECRETS = (
    (re.compile(r"(://)[^/?#\s@]+@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"(?i)(/login#)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)([?&;](?:key|sig|auth|code|sas)=)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:signature|credential|token|secret|password|passwd|api[_-]?key|access[_-]?key(?:[_-]?id)?)"
            r"[\"']?(?:=|: ?[\"'])[\"']?)[^&\s\"',;)}\]]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?i)(authorization[\"']?[=:] *[\"']?)(?:(?:bearer|basic) +)?[^\s\"',]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9+/=_.~-]{8,}"), rf"\1 {_HIDDEN}"),
)


@dataclass
class _State:
    """How this process logs."""

    handler: logging.Handler | None = None
    level: str = "warning"
    format: str = "text"
    in_file: bool = False
    raises: bool = logging.raiseExceptions


_state = _State()


def configure(*, level: str = "warning", format: str = "text", in_file: bool = False) -> None:  # noqa: A002  # as its flag
    """Write the tree ``stoker.*`` to standard error.

    Args:
        level: the least level that is written, one of LEVELS; notes are written unless it is "error".
        format: one of FORMATS.
        in_file: standard error goes to a log file, where every line has its time.
    """
    root = logging.getLogger(_ROOT)
    if _state.handler is None:
        _state.handler = _StandardError()
        root.addHandler(_state.handler)
        root.propagate = False  # Prefect sets up the root logger when it is imported
    _state.level, _state.format, _state.in_file = level, format, in_file
    # A full disk under standard error, or a Prefect server that ended, must not add tracebacks to it.
    logging.raiseExceptions = False
    root.setLevel(min(level.upper(), "INFO", key=_number))
    _state.handler.addFilter(_passes)
    verbose = in_file or level in ("debug", "info")
    _state.handler.setFormatter(
        _JsonFormatter() if format == "json" else _TextFormatter(verbose=verbose, dated=in_file)
    )
    signals.set_line_format(_interrupted_json if format == "json" else None)


def configure_worker(*, level: str, format: str) -> None:  # noqa: A002  # as its flag
    """``configure`` for a process that works for another one, which may be this very process."""
    if _state.handler is None:
        configure(level=level, format=format)


def configure_service(*, level: str, format: str) -> None:  # noqa: A002  # as its flag
    """``configure`` for a process whose standard error is a log file, where "info" is written, too."""
    configure(level=min(level, "info", key=LEVELS.index), format=format, in_file=True)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Undo ``configure`` at the end of the block: a test or a notebook may call a command as a function."""
    before = replace(_state, raises=logging.raiseExceptions)
    try:
        yield
    finally:
        if before.handler is not None:
            configure(level=before.level, format=before.format, in_file=before.in_file)
        elif _state.handler is not None:
            root = logging.getLogger(_ROOT)
            root.removeHandler(_state.handler)
            root.propagate = True
            root.setLevel(logging.NOTSET)
            signals.set_line_format(None)
            _state.handler, _state.level, _state.format, _state.in_file = None, before.level, before.format, False
        logging.raiseExceptions = before.raises


def note(text: str, **fields: object) -> None:
    """Tell the person at the terminal something that is no result; each line of the text by itself."""
    for line in text.splitlines():
        if not line:
            continue
        if _state.handler is None:
            print(escaped(line), file=sys.stderr, flush=True)
        else:
            logging.getLogger(_ROOT).info("%s", line, extra={_NOTE: True, **fields})


def error(text: str) -> None:
    """The one line about what failed."""
    if _state.handler is None or (_state.format == "text" and not _state.in_file):
        print(f"stoker: {escaped(redacted(' '.join(text.split())))}", file=sys.stderr, flush=True)
    else:
        logging.getLogger(_ROOT).error("%s", text)


def is_quiet() -> bool:
    """Whether only errors and results are wanted."""
    return _state.handler is not None and _state.level == "error"


def is_plain() -> bool:
    """Whether lines are read by a program: no progress bar."""
    return _state.format == "json"


def escaped(text: str) -> str:
    r"""Text without characters that a terminal obeys.

    >>> escaped("a\x1b[31m\nb é")
    'a\\x1b[31m\\nb é'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def redacted(text: str) -> str:
    """Text without what looks like a secret.

    >>> redacted("GET https://ann:pw@example.org/a?page=2&X-Amz-Signature=0f1e")
    'GET https://***@example.org/a?page=2&X-Amz-Signature=***'
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level]


def _passes(record: logging.LogRecord) -> bool:
    if getattr(record, _NOTE, False):
        return _state.level != "error"
    return record.levelno >= _number(_state.level.upper())


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time: a progress bar takes its place, and shows lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # read alone
        """Standard error."""
        return sys.stderr


class _TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self, *, verbose: bool, dated: bool) -> None:
        super().__init__()
        self._verbose, self._dated = verbose, dated

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows in lines of its own."""
        text = escaped(redacted(record.getMessage()))
        if record.exc_info:
            lines = redacted(self.formatException(record.exc_info)).splitlines()
            text = "\n".join([text, *map(escaped, lines)])
        if getattr(record, _NOTE, False) and not self._dated:
            return text
        if not self._verbose:
            return f"{record.levelname.lower()}: {text}"
        moment = _iso(record) if self._dated else time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{moment} {record.levelname:<7} {record.name}: {text}"


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        content: dict[str, Any] = {  # Any: JSON values
            "time": _iso(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        content = {name: _field(value) for name, value in fields.items()} | content
        if record.exc_info:
            content["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(content)


def _field(value: object) -> object:
    """A field as a JSON value, without what looks like a secret."""
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(name): _field(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_field(inner) for inner in value]
    return redacted(str(value))


def _iso(record: logging.LogRecord) -> str:
    """A record's time in UTC, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _interrupted_json(text: str) -> str:
    """A line that is written at the end by a signal, as ``_JsonFormatter`` does."""
    text = text.removeprefix("stoker: ")
    return _JsonFormatter().format(logging.makeLogRecord({"name": _ROOT, "levelname": "ERROR", "msg": text}))
