"""A TOML file that a person names: read with a limit, and no pipe where others could put one in its place."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST = 16 * 2**20  # bytes
# A key of many parts, a.b.c: tomllib's time grows with the square of their number (30,000 take 40 s).
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_LONG_KEY = re.compile(rf"(?:^|[{{,])[ \t\[]*+{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{100}}", re.MULTILINE)


class TomlError(ValueError):
    """A file that is no TOML: why."""


def read(path: Path, *, check: Callable[[os.stat_result], object] | None = None) -> dict[str, Any]:  # Any: TOML
    """The document in a file.

    ``check`` is called with the open file's status, and raises what it likes; such a file must be a plain one, because
    a pipe would make who reads it wait for ever. Raises OSError and TomlError.
    """
    import tomllib  # here: every command reads settings, most from no file

    # Without O_NONBLOCK a pipe to which nobody writes holds us already here.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if check else 0)), "rb") as file:
        if check is not None:
            status = os.fstat(file.fileno())
            check(status)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise TomlError("a pipe or a device; expected a plain file in TOML")
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise TomlError(f"more than {_MOST // 2**20} MiB; expected a file in TOML")
    try:
        text = content.decode("utf-8")
        if (long := _LONG_KEY.search(text)) is not None:
            line = text.count("\n", 0, long.start()) + 1
            raise TomlError(f"line {line}: a key of more than 100 parts (a.b.c); expected a file in TOML")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise TomlError(f"not UTF-8 (byte {error.start}); expected TOML") from None
    except RecursionError:
        raise TomlError("not TOML: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"not TOML: {error}") from None
