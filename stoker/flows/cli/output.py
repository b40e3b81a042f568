"""Results on standard output: as JSON for programs."""

from typing import TYPE_CHECKING, Any

from stoker.flows.report.json_text import json_text

if TYPE_CHECKING:
    from stoker.storage.versions.manifest import Manifest


def print_json(value: object, *, line: bool = False) -> None:
    """Print a JSON document; ``line``: in one line, as one of several."""
    print(json_text(value, indent=None if line else 1), flush=line)


def published_json(manifest: "Manifest", *, new: bool) -> dict[str, Any]:  # Any: JSON values
    """A version that a command made, or found to be the newest one."""
    return {
        "reference": manifest.reference,
        "corpus": manifest.corpus,
        "version": manifest.version,
        "new": new,
        "samples": manifest.samples,
        "size": manifest.size,
        "splits": {name: split.samples for name, split in manifest.splits.items()},
        "read": manifest.read,
        "rejected": dict(sorted(manifest.rejected.items())),
    }
