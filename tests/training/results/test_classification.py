"""What a classifier answered over a split."""

import json

import numpy as np
import pytest

from stoker.training.results.classification import CONFUSED, MOST_IN_MATRIX, WRONG, Classification
from stoker.training.results.evaluations import confused_pairs


def test_the_most_confidently_wrong_samples_are_kept_whatever_the_batches() -> None:
    generator = np.random.default_rng(0)
    expected = generator.integers(0, 3, 500)
    probabilities = generator.dirichlet([1, 1, 1], 500)
    probabilities[100:200] = probabilities[100]  # many of one probability: the first ones stay
    sources = [(f"key-{number}", f"https://example.org/{number}" if number % 2 else "") for number in range(500)]
    results = []
    for size in (500, 7):
        found = Classification(["a", "b", "c"])
        for start in range(0, 500, size):
            some = slice(start, start + size)
            found.add(expected[some], probabilities[some], sources[some])
        results.append(found.metrics())
    metrics = results[0]
    assert results[1] == metrics
    wrong = [(-probabilities[row].max(), row) for row in range(500) if probabilities[row].argmax() != expected[row]]
    assert [one["key"] for one in metrics["wrong"]] == [f"key-{row}" for _, row in sorted(wrong)[:WRONG]]
    first = sorted(wrong)[0][1]
    answer = {"expected": "abc"[expected[first]], "predicted": "abc"[probabilities[first].argmax()]}
    about = {"key": f"key-{first}"} | ({"url": f"https://example.org/{first}"} if first % 2 else {})
    assert metrics["wrong"][0] == about | answer | {"probability": round(probabilities[first].max(), 4)}


def test_counts_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

    generator = np.random.default_rng(1)
    expected, probabilities = generator.integers(0, 3, 200), generator.dirichlet([1, 1, 1, 1], 200)
    found = Classification(["a", "b", "c", "d"])
    found.add(expected, probabilities)
    metrics, predicted = found.metrics(), probabilities.argmax(1)
    assert metrics["confusion"] == confusion_matrix(expected, predicted, labels=range(4)).tolist()
    assert metrics["accuracy"] == metrics["score"] == pytest.approx(accuracy_score(expected, predicted))
    recall = recall_score(expected, predicted, labels=range(3), average=None)
    assert list(metrics["recall"].values()) == pytest.approx(recall.tolist(), abs=1e-4)
    assert (list(metrics["recall"]), metrics["samples"], metrics["wrong"]) == (["a", "b", "c"], 200, [])


def test_an_empty_split_has_no_accuracy_and_no_mistake() -> None:
    metrics = Classification(["a", "b"]).metrics()
    assert (metrics["accuracy"], metrics["recall"], metrics["wrong"]) == (0.0, {}, [])


def test_of_many_classes_the_most_confused_pairs_stand_for_the_matrix() -> None:
    classes = [f"class {number}" for number in range(MOST_IN_MATRIX + 1)]
    few, many = Classification(classes[:-1]), Classification(classes)
    generator = np.random.default_rng(2)
    expected = generator.integers(0, 30, 3000)
    predicted = np.where(generator.random(3000) < 0.5, expected, generator.integers(0, 30, 3000))
    for found, size in ((few, len(classes) - 1), (many, len(classes))):
        for some in np.split(np.arange(3000), 6):
            found.add(expected[some], np.eye(size, dtype=np.float32)[predicted[some]])
    dense, sparse = few.metrics(), many.metrics()
    assert "confused" not in dense
    assert "confusion" not in sparse
    assert json.loads(json.dumps(sparse)) == sparse  # a resumed run has what the first one had
    assert confused_pairs(sparse) == confused_pairs(dense)[:CONFUSED]
    assert len(json.dumps(sparse)) < 20_000 < len(json.dumps(dense))
    same = ("accuracy", "samples", "recall", "wrong")
    assert [dense[name] for name in same] == [sparse[name] for name in same]
