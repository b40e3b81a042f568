"""What deep learning is compared with: forests, support vector machines and neighbours, by scikit-learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stoker.training.errors import TrainingError
from stoker.training.studies.data import Bytes, Numbers

_MOST_FOR_KERNEL = 20_000  # samples: an exact kernel machine takes time that grows with their square, or faster
_COMPONENTS = 1000  # of Nystroem's approximation
_MAX_FEATURES = 80_000_000  # numbers in memory
_PREDICTED = 1000  # samples at a time
_ORIENTATIONS, _CELL = 9, 4  # of HOG
_JOBS = 1  # a study measures the time of one core

Features = npt.NDArray[np.float32]


def require_sklearn() -> None:
    """Raises TrainingError if scikit-learn is missing."""
    try:
        import sklearn  # noqa: F401  # imported for its absence
    except ModuleNotFoundError:
        raise TrainingError(
            'shallow methods need scikit-learn, which is not installed; pip install "stoker[train]"'
        ) from None


def forest(samples: int, seed: int) -> Any:  # Any: scikit-learn has no types
    """Breiman, "Random Forests", Machine Learning 2001: a hundred trees."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=seed, n_jobs=_JOBS)


def linear_svm(samples: int, seed: int) -> Any:  # Any: as above
    """Cortes and Vapnik, "Support-Vector Networks", 1995, without a kernel."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=0.01, random_state=seed, max_iter=300, tol=1e-3)


def rbf_svm(samples: int, seed: int) -> Any:  # Any: as above
    """The same with a Gaussian kernel; approximated where there are many samples.

    Williams and Seeger, "Using the Nyström Method to Speed Up Kernel Machines", NIPS 2000.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC, LinearSVC

    if samples <= _MOST_FOR_KERNEL:
        return SVC(C=10.0, gamma="scale", random_state=seed)
    kernel = Nystroem(gamma=_gamma(), n_components=_COMPONENTS, random_state=seed)
    return make_pipeline(kernel, LinearSVC(C=1.0, random_state=seed, max_iter=300, tol=1e-3))


def neighbours(samples: int, seed: int) -> Any:  # Any: as above
    """Cover and Hart, "Nearest neighbor pattern classification", 1967: of three neighbours."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(3, n_jobs=_JOBS)


def _gamma() -> float:
    """For features from 0 to 1, about what scikit-learn's "scale" gives for 28 x 28 pixels."""
    return 0.02


METHODS: dict[str, Callable[[int, int], Any]] = {  # Any: as above
    "forest": forest,
    "linear_svm": linear_svm,
    "rbf_svm": rbf_svm,
    "neighbours": neighbours,
}


def features_of(images: Bytes, kind: str) -> Features:
    """Images as rows of numbers: ``pixels`` from 0 to 1, or ``hog``.

    hog: Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005: nine orientations in cells
    of 4 x 4 pixels, normalised in blocks of 2 x 2 cells.
    """
    if kind == "pixels":
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    parts = [_hog(images[start : start + _PREDICTED]) for start in range(0, len(images), _PREDICTED)]
    return np.concatenate(parts)


def _hog(images: Bytes) -> Features:
    planes = images.astype(np.float32) / 255
    count, side, _, _ = planes.shape
    down, along = np.gradient(planes, axis=1), np.gradient(planes, axis=2)
    sizes = np.hypot(down, along)
    strongest = sizes.argmax(3, keepdims=True)  # of the channels
    down, along, size = (np.take_along_axis(each, strongest, 3)[..., 0] for each in (down, along, sizes))
    place = (np.arctan2(down, along) % np.pi) / np.pi * _ORIENTATIONS  # each gradient counts in the two nearest bins
    first = np.floor(place).astype(np.int64) % _ORIENTATIONS
    weight = place - np.floor(place)
    cells = side // _CELL
    bins = np.zeros((count, cells, cells, _ORIENTATIONS), np.float32)
    for number in range(_ORIENTATIONS):
        votes = size * ((first == number) * (1 - weight) + ((first + 1) % _ORIENTATIONS == number) * weight)
        bins[..., number] = votes.reshape(count, cells, _CELL, cells, _CELL).sum((2, 4))
    blocks = [bins[:, y : y + cells - 1, x : x + cells - 1] for y in (0, 1) for x in (0, 1)]
    joined = np.concatenate(blocks, axis=3)
    joined /= np.sqrt((joined**2).sum(3, keepdims=True) + 1e-3)
    return joined.reshape(count, -1).astype(np.float32)


def most_samples(features: int) -> int:
    """How many samples of so many features are kept in memory."""
    return _MAX_FEATURES // features


def predict(model: Any, features: Features) -> Numbers:  # Any: as above
    """The classes that a model gives, few samples at a time."""
    parts = [model.predict(features[start : start + _PREDICTED]) for start in range(0, len(features), _PREDICTED)]
    return np.concatenate(parts)


def parameters_of(model: Any) -> int:  # Any: as above
    """How many numbers a model keeps: nodes of its trees, weights, support vectors, samples."""
    if hasattr(model, "steps"):
        return sum(parameters_of(step) for _, step in model.steps)
    if hasattr(model, "estimators_"):
        return sum(int(tree.tree_.node_count) for tree in model.estimators_)
    names = ("coef_", "intercept_", "support_vectors_", "dual_coef_", "_fit_X", "components_", "normalization_")
    return sum(int(np.size(vars(model)[name])) for name in names if name in vars(model))
