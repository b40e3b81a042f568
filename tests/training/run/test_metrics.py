"""Metrics are written once for each step, also by a resumed run."""

import json

from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, run


def test_metrics_are_written_as_json_lines_and_no_step_twice(digits: Small) -> None:
    first = run(digits, "cnn", CNN, stop=after(12))
    run(digits, "cnn", CNN, resume=True)
    lines = [json.loads(line) for line in (first.folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line["step"] for line in lines if line["kind"] == "evaluate"]
    assert evaluated == sorted(set(evaluated)) == [10, 20]
    assert lines[-1]["accuracy"] >= 0
    assert digits.store.read(f"small/runs/{first.run}/metrics.jsonl")
    assert list(first.folder.glob("events.out.tfevents.*"))
