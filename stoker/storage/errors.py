"""Every error that Stoker raises on purpose.

StokerError
├── StorageError
│   ├── NotFound              no such object, corpus or version
│   ├── AlreadyExists         a create-only write met an object
│   ├── CorruptShard          bytes that differ from what the manifest promised
│   ├── StorageRefused        wrong credentials, no such bucket, no permission, disk full
│   └── StorageUnavailable    busy or unreachable: the only storage error that is retried
├── RecipeError, SourceError  (stoker.pipelines.errors)
└── TrainingError             (stoker.training.errors)

A message says what failed, where, what was found, what was expected and what to do next, in one line.
Any other exception is a bug and is shown with its traceback.
"""


class StokerError(Exception):
    """Something a user can cause or mend; its message is shown without a traceback."""


class StorageError(StokerError):
    """A store, or an object in it, is not as it should be."""


class NotFound(StorageError):
    """No such object, corpus or version."""


class AlreadyExists(StorageError):
    """A create-only write found an object under its key."""


class CorruptShard(StorageError):
    """Bytes in the store differ from what was promised of them."""


class StorageRefused(StorageError):
    """The store answered, and the answer is no: trying again changes nothing."""


class StorageUnavailable(StorageError):
    """The store is busy or out of reach; the same call may succeed later."""
