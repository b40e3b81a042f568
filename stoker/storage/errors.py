"""The errors that Stoker raises for causes outside its code.

StokerError
├── StorageError
│   ├── NotFound              no such object, corpus or version
│   │   └── SampleNotFound    no such sample in a version; a KeyError too
│   ├── AlreadyExists         a create-only write met an object
│   ├── CorruptShard          bytes that differ from what the manifest says
│   │   └── CorruptObject     a whole object that differs from its checksum; it has the object's key
│   ├── StorageRefused        wrong credentials, no such bucket, no permission, disk full
│   └── StorageUnavailable    busy or unreachable: the only storage error that is retried
├── RecipeError, SourceError  (stoker.pipelines.errors)
└── TrainingError             (stoker.training.errors)

A message says what failed, where, what was found, what was expected and what to do next, in one line.
Any other exception is a bug and is shown with its traceback.
"""


class StokerError(Exception):
    """Base of all errors that a user can cause or fix. The message is one line: what failed, where, and what to do.

    >>> from stoker import StokerError, load_manifest, open_store
    >>> try:
    ...     load_manifest(open_store("memory:"), "digits")
    ... except StokerError as error:
    ...     print(error)
    memory:: no corpus is called 'digits'; the store holds none yet
    """


class StorageError(StokerError):
    """An error of a store or of an object in it."""


class NotFound(StorageError):
    """No such object, corpus or version."""


class SampleNotFound(NotFound, KeyError):
    """No sample of a version has this key."""

    __str__ = NotFound.__str__  # KeyError would put its message in quotes


class AlreadyExists(StorageError):
    """A create-only write found an object under its key."""


class CorruptShard(StorageError):
    """Bytes in the store differ from what the manifest or the format says."""


class CorruptObject(CorruptShard):
    """An object differs from its checksum, or cannot be read as what it is. ``key`` is its key in the store."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type["CorruptObject"], tuple[str, str]]:
        return type(self), (str(self), self.key)  # it is raised in workers too


class StorageRefused(StorageError):
    """The store refused the request: a retry will not help."""


class StorageUnavailable(StorageError):
    """The store is busy or out of reach; the same call may succeed later."""
