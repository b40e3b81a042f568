"""Calls a function in a fresh Python process with another hash seed, so that the order of sets shows."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_SCRIPT = (
    "import pickle, sys\n"
    "sys.path[:] = pickle.load(sys.stdin.buffer)\n"
    "function, arguments = pickle.load(sys.stdin.buffer)\n"
    "sys.stdout.buffer.write(pickle.dumps(function(*arguments)))\n"
)
_TIMEOUT_S = 60


def call_elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:  # Any: what the function takes and returns
    """What a function of a module returns in a process of its own. Raises CalledProcessError if it fails there."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    answer = subprocess.run(  # our own interpreter
        [sys.executable, "-c", _SCRIPT],
        input=pickle.dumps(sys.path) + pickle.dumps((function, arguments)),
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return pickle.loads(answer.stdout)  # written by our own process
