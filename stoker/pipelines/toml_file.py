"""A TOML file that a person names: read with a limit, and no pipe where others could put one in its place."""

import os
import re
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST = 16 * 2**20  # bytes
_PIPE_WAIT_S = 30.0  # for the next byte
# A key of many parts, a.b.c: tomllib's time grows with the square of their number (30,000 take 40 s).
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_LONG_KEY = re.compile(rf"(?:^|[{{,])[ \t\[]*+{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{100}}", re.MULTILINE)


class TomlError(ValueError):
    """A file that is no TOML: why."""


def read(path: Path, *, check: Callable[[os.stat_result], object] | None = None) -> dict[str, Any]:  # Any: TOML
    """The document in a file.

    ``check`` is called with the open file's status, and raises what it likes; such a file must be a plain one, because
    others could put a pipe in its place. Without it, a pipe is read, too: a shell gives one for ``<(...)``. Raises
    OSError and TomlError.
    """
    import tomllib  # here: every command reads settings, most from no file

    # Without O_NONBLOCK a pipe to which nobody writes holds us already here.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if check is not None:
            check(status)
        if stat.S_ISREG(status.st_mode):
            content = file.read(_MOST + 1)
        elif check is None:
            content = _read_pipe(file.fileno())
        else:
            raise TomlError("a pipe or a device; expected a plain file in TOML")
    if len(content) > _MOST:
        raise TomlError(f"more than {_MOST // 2**20} MiB; expected a file in TOML")
    try:
        text = content.decode("utf-8")
        if (long := _LONG_KEY.search(text)) is not None:
            line = text.count("\n", 0, long.start()) + 1
            raise TomlError(f"line {line}: a key of more than 100 parts (a.b.c); expected a file in TOML")
        document = tomllib.loads(text)
        _check_numbers(document, "")
    except UnicodeDecodeError as error:
        raise TomlError(f"not UTF-8 (byte {error.start}); expected TOML") from None
    except RecursionError:
        raise TomlError("not TOML: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"not TOML: {error}") from None
    except TomlError:
        raise
    except ValueError:  # of thousands of digits
        raise TomlError("not TOML: a number of more than 64 bits") from None
    return document


def _check_numbers(value: object, where: str) -> None:
    """Raise TomlError for a whole number of more than 64 bits, which TOML has none of; Python may fail to print it."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise TomlError(f"not TOML: {where}: a number of more than 64 bits")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, where)


def _read_pipe(handle: int) -> bytes:
    """What comes through a pipe, a little more than ``_MOST`` bytes at most. Raises OSError, TomlError."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    content = bytearray()
    while len(content) <= _MOST:
        if not poll.poll(_PIPE_WAIT_S * 1000):
            raise TomlError(f"a pipe or a device from which nothing came for {_PIPE_WAIT_S:g} s; expected TOML")
        piece = os.read(handle, 1 << 16)
        if not piece:
            break
        content += piece
    return bytes(content)
