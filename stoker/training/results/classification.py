"""What a classifier answered over a split: accuracy, confusion, recall by class, and its most confident mistakes."""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WRONG = 24  # samples that are kept

Source = tuple[str, str]  # key and URL of a sample; the URL may be ""


class Classification:
    """Counts the answers of a classifier, batch by batch; its memory depends on the number of classes alone.

    >>> found = Classification(["cat", "dog"])
    >>> found.add(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), [("a", ""), ("b", "https://example.org/b")])
    >>> found.metrics()["confusion"], [wrong["key"] for wrong in found.metrics()["wrong"]]
    ([[1, 0], [1, 0]], ['b'])
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._confusion = np.zeros((len(classes), len(classes)), np.int64)
        self._wrong: list[tuple[float, int, dict[str, Any]]] = []  # Any: JSON values; a heap, the least confident first
        self._samples = 0

    def add(
        self, expected: npt.NDArray[Any], probabilities: npt.NDArray[Any], sources: Sequence[Source] = ()
    ) -> None:  # Any: integers, floats
        """Count a batch.

        Args:
            expected: (B,) the classes' numbers.
            probabilities: (B, classes) what the model gives each class.
            sources: of the B samples; without them no mistake is named.
        """
        predicted = probabilities.argmax(1)
        np.add.at(self._confusion, (expected, predicted), 1)
        for row in np.flatnonzero(predicted != expected).tolist() if sources else ():
            key, url = sources[row]
            probability = float(probabilities[row, predicted[row]])
            answer = {"expected": self._classes[expected[row]], "predicted": self._classes[predicted[row]]}
            named = {"key": key, "url": url} if url else {"key": key}
            # Of equal probabilities the first samples stay: the place in the split decides, whatever the batches.
            entry = (probability, -(self._samples + row), {**named, **answer, "probability": round(probability, 4)})
            (heapq.heappush if len(self._wrong) < WRONG else heapq.heappushpop)(self._wrong, entry)
        self._samples += len(expected)

    def metrics(self) -> dict[str, Any]:  # Any: JSON values
        """``score`` and ``accuracy``, ``samples``, ``recall`` by class, ``confusion[expected][predicted]``, ``wrong``.

        The rows and columns of ``confusion`` are those of ``classes``. ``recall`` has no entry for a class without
        samples. ``wrong``: the most confidently wrong samples first.
        """
        correct, totals = self._confusion.diagonal(), self._confusion.sum(1)
        accuracy = float(correct.sum()) / max(1, self._samples)
        recall = zip(self._classes, correct.tolist(), totals.tolist(), strict=True)
        return {
            "score": accuracy,
            "accuracy": accuracy,
            "samples": self._samples,
            "classes": list(self._classes),
            "recall": {name: round(right / total, 4) for name, right, total in recall if total},
            "confusion": self._confusion.tolist(),
            "wrong": [wrong for _, _, wrong in sorted(self._wrong, key=lambda entry: entry[:2], reverse=True)],
        }
