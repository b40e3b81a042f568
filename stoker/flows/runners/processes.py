"""Prefect's runner of worker processes, on workers of ours."""

import queue
import threading
from typing import Self

from prefect.task_runners import ProcessPoolTaskRunner, _initialize_process_pool_worker

from stoker.flows.runners.workers import Workers


class Processes(ProcessPoolTaskRunner):
    """A runner whose workers are replaced when they end; see ``workers``."""

    def __enter__(self) -> Self:
        super().__enter__()  # its own executor starts no process before the first task
        # Logs and events of workers come by each worker's own pipe: a queue that they share stays locked for ever when
        # one of them is killed while it writes.
        self._stop_message_forwarding()
        self._subprocess_message_queue = messages = queue.SimpleQueue[object]()
        name = "stoker-messages"
        self._message_forwarding_thread = threading.Thread(
            target=self._forward_subprocess_messages, name=name, daemon=True
        )
        self._message_forwarding_thread.start()
        self._executor = Workers(  # type: ignore[assignment]  # as an executor it is used
            self._max_workers, _initialize_process_pool_worker, messages.put
        )
        return self
