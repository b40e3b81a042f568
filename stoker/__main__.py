# PYTHON_ARGCOMPLETE_OK
"""The program `stoker`, also as `python -m stoker`. Signals are handled before anything that takes time is imported."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run one command; see ``stoker.flows.cli.cli``. Returns the exit code."""
    _open_standard_files()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from stoker.flows.cli.cli import main as run

    return run()


def _open_standard_files() -> None:
    """Open those of 0, 1 and 2 that the caller closed: a file of ours would get the number, and what is printed."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115  # for good


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing was begun."""
    how = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    os.write(2, f"stoker: {how}; the same command resumes\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
