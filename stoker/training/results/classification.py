"""What a classifier answered over a split: accuracy, confusion, recall by class, and its most confident mistakes."""

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WRONG = 24  # samples that are kept
MOST_IN_MATRIX = 200  # classes: of more the matrix would be most of a checkpoint's description
CONFUSED = 100  # pairs of so many classes that are kept

Source = tuple[str, str]  # key and URL of a sample; the URL may be ""


class Classification:
    """Counts the answers of a classifier, batch by batch; its memory depends on the classes, and what it confuses.

    >>> found = Classification(["cat", "dog"])
    >>> found.add(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), [("a", ""), ("b", "https://example.org/b")])
    >>> found.metrics()["confusion"], [wrong["key"] for wrong in found.metrics()["wrong"]]
    ([[1, 0], [1, 0]], ['b'])
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._counts = Counter[int]()  # of expected * classes + predicted, where there is any
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
        pairs, counts = np.unique(expected.astype(np.int64) * len(self._classes) + predicted, return_counts=True)
        self._counts.update(dict(zip(pairs.tolist(), counts.tolist(), strict=True)))
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
        samples. ``wrong``: the most confidently wrong samples first. Of more than 200 classes ``confused`` stands for
        ``confusion``: class, what it was taken for, how often; the most frequent first.
        """
        size = len(self._classes)
        correct, totals = [self._counts[number * size + number] for number in range(size)], [0] * size
        for pair, count in self._counts.items():
            totals[pair // size] += count
        accuracy = sum(correct) / max(1, self._samples)
        recall = zip(self._classes, correct, totals, strict=True)
        return {
            "score": accuracy,
            "accuracy": accuracy,
            "samples": self._samples,
            "classes": list(self._classes),
            "recall": {name: round(right / total, 4) for name, right, total in recall if total},
            **({"confusion": self._matrix()} if size <= MOST_IN_MATRIX else {"confused": self._confused()}),
            "wrong": [wrong for _, _, wrong in sorted(self._wrong, key=lambda entry: entry[:2], reverse=True)],
        }

    def _matrix(self) -> list[list[int]]:
        numbers = range(len(self._classes))
        return [[self._counts[row * len(numbers) + column] for column in numbers] for row in numbers]

    def _confused(self) -> list[list[Any]]:  # Any: two names and a number, as JSON has them
        size = len(self._classes)
        wrong = ((-count, pair) for pair, count in self._counts.items() if pair // size != pair % size)
        return [
            [self._classes[pair // size], self._classes[pair % size], -count]
            for count, pair in heapq.nsmallest(CONFUSED, wrong)
        ]
