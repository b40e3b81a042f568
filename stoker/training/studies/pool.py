"""Worker processes that measure rows, one row at a time each. They are ended, whatever they do, when the study ends."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from stoker.training.errors import TrainingError
from stoker.training.studies.plan import Row

Task = tuple[Row, int]  # and its seed
_MAX_ERROR = 300  # characters of what a worker that died had said
_WAIT_S = 0.2  # a signal's handler runs between two waits


class Workers:
    """Processes that measure with the data in a folder. To be closed."""

    def __init__(self, folder: Path, count: int) -> None:
        self._processes = [_Process(folder) for _ in range(count)]
        self._free: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="stoker-study")

    def measure(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:  # Any: JSON values
        """What each task reached, as soon as it is done. Raises TrainingError."""
        waiting = {self._threads.submit(self._measured, task): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()

    def _measured(self, task: Task) -> dict[str, Any]:  # Any: JSON values
        process = self._free.get()
        try:
            return process.ask(task)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()


class _Process:
    """One worker process."""

    def __init__(self, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close
        self._process = subprocess.Popen(  # noqa: S603  # this Python, and a folder that was made here
            [sys.executable, "-P", "-m", "stoker.training.studies.worker", str(folder)],  # -P: not of this folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the process that reports
        )

    def ask(self, task: Task) -> dict[str, Any]:  # Any: JSON values
        row, seed = task
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"row": asdict(row), "seed": seed}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # it died, or was closed
            line = ""
        if not line:
            raise TrainingError(f"study: row {row.name!r}, seed {seed}: its process ended {self._ending()}")
        answer: dict[str, Any] = json.loads(line)  # Any: JSON values
        if "error" in answer:
            raise TrainingError(f"study: row {row.name!r}: {answer['error']}")
        run: dict[str, Any] = answer["run"]
        return run

    def _ending(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        how = f"by signal {-code} (9: out of memory, mostly)" if code < 0 else f"with exit code {code}"
        return f"{how}: {said[-1][:_MAX_ERROR]}" if said else how

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was not written yet is lost, as is meant
                continue
        self._errors.close()
