"""A process that measures rows: reads a task a line from standard input, and writes its result as a line.

``python -m stoker.training.studies.worker FOLDER``; it ends with the process that started it.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stoker.storage.errors import StokerError
from stoker.training.studies.plan import Row

_POLL_S = 1.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main(folder: Path) -> int:
    """Measure until standard input ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.environ.update(_ONE_THREAD)  # read by the libraries that the next imports load
    results, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no result
    from stoker.training.studies.data import open_data
    from stoker.training.studies.measure import measure
    from stoker.training.studies.threads import one_thread

    data = open_data(folder)
    with one_thread():
        for line in sys.stdin:
            task = json.loads(line)
            answer: dict[str, Any]  # Any: JSON values
            try:
                answer = {"run": measure(Row(**task["row"]), data, task["seed"])}
            except StokerError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), file=results, flush=True)
    return 0


def _end_with(parent: int) -> None:
    """End this process as soon as its parent has: it may be in the middle of a long measurement."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
