"""A digest of the code that a row's result depends on: other code measures anew."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_HERE = Path(__file__).parent
_TRAINING = _HERE.parent
_FILES = {
    "shallow": ("studies/data.py", "studies/measure.py", "studies/shallow.py"),
    "ngram": ("studies/data.py", "studies/measure.py", "studies/ngrams.py"),
    "cnn": (
        "studies/data.py",
        "studies/measure.py",
        "studies/networks.py",
        "models/*.py",
        "networks/*.py",
        "run/**/*.py",
    ),
    "lstm": (
        "studies/data.py",
        "studies/measure.py",
        "studies/networks.py",
        "models/*.py",
        "networks/*.py",
        "run/*.py",
    ),
}
_PACKAGES = {"shallow": ("scikit-learn", "numpy"), "ngram": (), "cnn": ("torch",), "lstm": ("torch",)}


@cache
def code_of(method: str) -> str:
    """The digest for a method of a row."""
    digest = hashlib.sha256()
    for pattern in _FILES[method]:
        for path in sorted(_TRAINING.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for package in _PACKAGES[method]:
        try:
            digest.update(f"{package} {version(package)}".encode())
        except PackageNotFoundError:  # whoever needs it says so
            continue
    return digest.hexdigest()[:16]
