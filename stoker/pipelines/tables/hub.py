"""Data sets of the Hugging Face hub, through the ``datasets`` library: the only module that loads it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.partition import digest
from stoker.pipelines.tables.columns import Column, columns_of
from stoker.pipelines.tables.row_batches import Row


@dataclass
class HubTable:
    """One split of a data set, loaded at its first use. Raises SourceUnavailable, SourceBroken, RecipeError."""

    dataset: str
    config: str
    split: str
    revision: str
    streaming: bool

    @cached_property
    def _loaded(self) -> Any:  # Any: a class of the library, which has no types
        library = _library()
        _refuse_local(self.dataset, library)
        with self._errors(library):
            builder = library.load_dataset_builder(self.dataset, self.config or None, revision=self.revision or None)
            _refuse_other_places(self.dataset, builder.config.data_files)
            if self.streaming:
                loaded = builder.as_streaming_dataset(split=self.split)
            else:
                builder.download_and_prepare()
                loaded = builder.as_dataset(split=self.split)
            features = loaded.features
            if features is None:  # a stream: the library must read its first rows
                loaded = loaded._resolve_features()  # the library has no public function for it
                features = loaded.features
            for name, feature in features.items():
                if isinstance(feature, library.Image):
                    loaded = loaded.cast_column(name, library.Image(decode=False))  # the stored bytes
                elif isinstance(getattr(feature, "feature", None), library.Image):  # a list of images
                    loaded = loaded.cast_column(name, type(feature)(library.Image(decode=False)))
            return loaded

    @property
    def columns(self) -> dict[str, Column]:
        """The columns by name."""
        return columns_of(self._loaded.features.to_dict())

    @property
    def count(self) -> int | None:
        """The number of rows; None for a stream that does not tell it before it is read."""
        if not self.streaming:
            return len(self._loaded)
        splits = self._loaded.info.splits or {}
        known = splits[self.split].num_examples if self.split in splits else 0
        return known or None

    @property
    def licence(self) -> str:
        """The licence in the data set's metadata, often ""."""
        return str(self._loaded.info.license or "")

    @property
    def fingerprint(self) -> str:
        """Changes when the data set does, as far as its metadata shows."""
        info = self._loaded.info
        known = [self.revision, str(info.version), info.download_size, info.dataset_size, self.count]
        return digest([*known, self._loaded.features.to_dict()])[:32]

    def rows(self, start: int, stop: int | None) -> Iterator[Row]:
        """The rows from ``start`` to before ``stop`` (None: the end), in order."""
        with self._errors(_library()):
            if self.streaming:
                part = self._loaded.skip(start)
                yield from part if stop is None else part.take(stop - start)
            else:
                yield from self._loaded.select(range(start, len(self._loaded) if stop is None else stop))

    def read_cached_file(self, path: str) -> bytes | None:
        """The bytes of a file that the library fetched for this data set, else None.

        Rows must not name other files of this machine: the folder above holds the owner's token, and other data sets.
        """
        _library()
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=self.dataset, repo_type="dataset")).resolve()
        file = Path(path).resolve()  # of snapshots/REVISION, whose links lead to blobs beside it
        return file.read_bytes() if file.is_relative_to(folder) and file.is_file() else None

    @contextmanager
    def _errors(self, library: ModuleType) -> Iterator[None]:
        """Convert the library's errors: temporary ones to SourceUnavailable, all others to SourceBroken."""
        try:
            yield
        except (
            OSError,
            ValueError,
            RuntimeError,
            ArithmeticError,
            LookupError,
            library.exceptions.DatasetsError,
        ) as error:
            name = f"data set {self.dataset!r}"
            if _is_temporary(error):
                raise SourceUnavailable(f"{name}: the hub is out of reach: {_one_line(error)}") from error
            if isinstance(error, FileNotFoundError):
                raise SourceBroken(f"{name}: not found, or not open to all: {_one_line(error)}") from error
            raise SourceBroken(f"{name}: {_one_line(error)}") from error


def _refuse_local(dataset: str, library: ModuleType) -> None:
    """Refuse a name for which the library reads files of the working directory, which is not the recipe's folder.

    Raises RecipeError.
    """
    if dataset in library.packaged_modules._PACKAGED_DATASETS_MODULES or Path(dataset).exists():
        raise RecipeError(
            f"data set {dataset!r}: the name of a file format, or of something in the working directory; expected a "
            "name on the hub: work in another folder, or set dataset to a path from the recipe's folder"
        )


def _refuse_other_places(dataset: str, data_files: Mapping[str, Iterable[object]] | None) -> None:
    """Refuse a data set whose metadata names files that are not on the hub, but on this machine or another server.

    Raises SourceBroken.
    """
    for files in (data_files or {}).values():
        for file in files:
            inner = str(file).rpartition("::")[2]  # "zip://a.csv::hf://datasets/..." is a file in a file
            if not inner.startswith("hf://datasets/"):
                raise SourceBroken(f"data set {dataset!r}: it names a file that is not on the hub: {str(file)[:200]}")


def _is_temporary(error: BaseException | None) -> bool:
    """Whether the network or the hub itself failed; the library wraps such errors in many others."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    while error is not None:
        if isinstance(error, RepositoryNotFoundError):
            return False
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code if error.response is not None else 0
            return status >= 500 or status in (0, 408, 429)
        if isinstance(error, ConnectionError | TimeoutError | httpx.TransportError | LocalEntryNotFoundError):
            return True
        if "LocalEntryNotFoundError" in str(error):  # some errors of the library keep only its name
            return True
        error = error.__cause__ or error.__context__
    return False


def check_library() -> None:
    """Raise RecipeError if the library is not installed. Does not import it, which takes seconds."""
    if find_spec("datasets") is None:
        raise RecipeError("source 'hugging_face' needs a library for the hub: pip install \"stoker[huggingface]\"")


def _library() -> ModuleType:
    check_library()
    import datasets

    datasets.disable_progress_bars()
    return datasets  # type: ignore[no-any-return]  # untyped


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
