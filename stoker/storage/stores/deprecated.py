"""Old names of the stores' methods. Each still works and warns; kept for one minor version."""

import warnings
from collections.abc import Iterator

from stoker.storage.stores.store import PendingUpload, Store


class DeprecatedNames:
    """Mixin of the stores of this package."""

    def pieces(self: Store, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Old name of ``iter_bytes``."""
        _warn("pieces", "iter_bytes")
        return self.iter_bytes(key, start=start)

    def unfinished(self: Store, prefix: str = "") -> Iterator[PendingUpload]:
        """Old name of ``pending_uploads``."""
        _warn("unfinished", "pending_uploads")
        return self.pending_uploads(prefix)

    def abandon(self: Store, unfinished: PendingUpload) -> None:
        """Old name of ``abort``."""
        _warn("abandon", "abort")
        self.abort(unfinished)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"Store.{old} is now called Store.{new}", DeprecationWarning, stacklevel=3)
