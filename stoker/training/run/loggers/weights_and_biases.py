"""A run at Weights & Biases, or in its files where WANDB_MODE is offline."""

from collections.abc import Mapping
from typing import Any

from stoker.plugins import one_line
from stoker.training.errors import TrainingError
from stoker.training.run.loggers.trackers import Sending, Tracked

_ID_FILE = "wandb-id"  # in the run's folder


def open_tracker(tracked: Tracked) -> "WandbRun":
    """The run's entry, a new one or that of before. Project, entity, mode and key are W&B's own settings (WANDB_...).

    Raises TrainingError.
    """
    import wandb

    id_file = tracked.folder / _ID_FILE
    before = id_file.read_text().strip() if id_file.exists() else None
    try:
        project = wandb.setup().settings.project or tracked.corpus
        run = wandb.init(
            project=project,
            name=tracked.run,
            id=before,
            resume="allow",
            dir=str(tracked.folder),
            config={"version": tracked.version, **tracked.options},
            # Nothing is sent that was not asked for: no output, code, state of a repository or list of packages.
            settings=wandb.Settings(
                console="off", disable_git=True, save_code=False, x_save_requirements=False, silent=True
            ),
        )
    except (wandb.errors.Error, OSError) as error:
        raise TrainingError(
            f"loggers = wandb: {one_line(error)}; log in (`wandb login`), or set WANDB_MODE=offline"
        ) from error
    id_file.write_text(run.id)
    return WandbRun(run)


class WandbRun:
    """A Tracker. W&B takes steps in their order alone, so what a resumed run does again is not there twice.

    A service that fails ends no training.
    """

    def __init__(self, run: Any) -> None:  # Any: wandb is not always there
        self._run = run
        self._send = Sending("W&B", run.id)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        named = {f"{kind}/{name}": value for name, value in values.items()}
        self._send(lambda: self._run.log(named, step=step))

    def add_text(self, name: str, step: int, text: str) -> None:
        """See Tracker."""
        self._send(lambda: self._run.summary.update({name: text}))

    def close(self) -> None:
        """See Tracker."""
        self._send(lambda: self._run.finish())
