# PYTHON_ARGCOMPLETE_OK
"""The program `stoker`, also as `python -m stoker`. Signals are handled before anything that takes time is imported."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run one command; see ``stoker.flows.cli.cli``. Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from stoker.flows.cli.cli import main as run

    return run()


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: nothing was begun."""
    how = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    os.write(2, f"stoker: {how}; the same command resumes\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
