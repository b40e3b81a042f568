"""Measures one row of a study with one seed, by the method that it names."""

import time
from typing import Any

from stoker.training.studies.data import Images, Texts
from stoker.training.studies.plan import Row, samples_of


def measure(row: Row, data: Images | Texts, seed: int) -> dict[str, Any]:  # Any: JSON values
    """What a run of a row reached: score, metrics, times, size, curve and gradients. Raises TrainingError."""
    if row.method in ("cnn", "lstm"):
        from stoker.training.studies.networks import measure_network

        return measure_network(row, data, seed)
    if row.method == "shallow":
        assert isinstance(data, Images)
        return _measure_shallow(row, data, seed)
    assert isinstance(data, Texts)
    return _measure_ngrams(row, data)


def _measure_shallow(row: Row, data: Images, seed: int) -> dict[str, Any]:  # Any: JSON values
    from stoker.training.studies import shallow

    shallow.require_sklearn()
    images = data.resized(row.options.get("pixels", data.train.shape[1]))
    kind, wanted = row.options.get("features", "pixels"), samples_of(row, len(images.train))
    per_sample = shallow.features_of(images.train[:1], kind).shape[1]
    count = min(wanted, shallow.most_samples(per_sample))
    begun, cpu = time.monotonic(), time.process_time()
    features = shallow.features_of(images.train[:count], kind)
    model = shallow.METHODS[row.options["model"]](count, seed).fit(features, images.train_classes[:count])
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    del features
    begun = time.process_time()
    tested = row.tested or len(images.test)
    predicted = shallow.predict(model, shallow.features_of(images.test[:tested], kind))
    return {
        "score": float((predicted == images.test_classes[:tested]).mean()),
        "metrics": {},
        "curve": [],
        "gradients": [],
        "cpu_s": round(cpu, 2),
        "seconds": round(seconds, 2),
        "test_cpu_s": round(time.process_time() - begun, 2),
        "note": "" if count == wanted else f"{count:,} of {wanted:,} samples: the memory's limit",
        "parameters": shallow.parameters_of(model),
        "multiplications": 0,
    }


def _measure_ngrams(row: Row, data: Texts) -> dict[str, Any]:  # Any: JSON values
    from stoker.training.studies.ngrams import NGrams

    begun, cpu = time.monotonic(), time.process_time()
    tokens = data.train[: samples_of(row, len(data.train))]
    model = NGrams(tokens, order=row.options["order"], vocabulary=data.schema["vocabulary"])
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    begun = time.process_time()
    score = model.bits_per_character(data.test[: row.tested or len(data.test)])
    return {
        "score": score,
        "metrics": {},
        "curve": [],
        "gradients": [],
        "cpu_s": round(cpu, 2),
        "seconds": round(seconds, 2),
        "test_cpu_s": round(time.process_time() - begun, 2),
        "note": "",
        "parameters": model.parameters,
        "multiplications": 0,
    }
