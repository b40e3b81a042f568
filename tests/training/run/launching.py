"""Ranks of a training in processes of their own, on loopback."""

import os
import signal
import subprocess
import sys

from tests.conftest import HANGS_S


def launch(script: str, world_size: int, *arguments: str) -> str:
    """What the ranks of a script print under torchrun; they are ended with it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world_size}", "--rdzv-backend=c10d"),
            *("--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", script),
            *arguments,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=HANGS_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, output
    return output
