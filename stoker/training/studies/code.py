"""A digest of the code that a row's result depends on: other code measures anew."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_HERE = Path(__file__).parent
_TRAINING = _HERE.parent
_DATA = (
    "studies/data.py",
    "studies/measure.py",
    "studies/plan.py",
    "loader/**/*.py",
    "pictures/**/*.py",
    "stream/**/*.py",
)
_NETWORK = ("studies/networks.py", "models/*.py", "networks/*.py", "run/**/*.py")
_FILES = {
    "shallow": (*_DATA, "studies/shallow.py"),
    "ngram": (*_DATA, "studies/ngrams.py"),
    "cnn": (*_DATA, *_NETWORK),
    "lstm": (*_DATA, *_NETWORK),
}
_PACKAGES = {"shallow": ("scikit-learn",), "ngram": (), "cnn": ("torch",), "lstm": ("torch",)}
_ALWAYS = ("numpy", "pillow")  # of the data


@cache
def code_of(method: str) -> str:
    """The digest for a method of a row."""
    digest = hashlib.sha256()
    for pattern in _FILES[method]:
        for path in sorted(_TRAINING.glob(pattern)):
            digest.update(path.relative_to(_TRAINING).as_posix().encode() + b"\0" + path.read_bytes())
    for package in (*_ALWAYS, *_PACKAGES[method]):
        try:
            digest.update(f"{package} {version(package)}".encode())
        except PackageNotFoundError:  # whoever needs it says so
            continue
    return digest.hexdigest()[:16]
