"""A monitor reports rates since its last report, and the share of time that the loop waited."""

import pytest

from stoker.training.loader.monitor import StreamMonitor
from stoker.training.reading.counters import Counters


def test_a_report_has_rates_and_shares_since_the_last_one() -> None:
    now = [10.0]
    counters = Counters()
    counters.add(samples=5, hits=7)
    monitor = StreamMonitor(counters, clock=lambda: now[0])
    counters.add(samples=300, bytes=6000, hits=3, misses=1, fetched=500, waited_s=0.5, loop_s=1.5, depth=6, batches=4)
    now[0] = 12.0
    assert monitor.report() == pytest.approx(
        {
            "samples_per_s": 150,
            "bytes_per_s": 3000,
            "fetched_per_s": 250,
            "cache_hits": 0.75,
            "stall": 0.25,
            "queue": 1.5,
        }
    )
    counters.add(skipped=2)
    now[0] = 13.0
    assert monitor.report() == {"samples_per_s": 0, "bytes_per_s": 0, "fetched_per_s": 0, "skipped": 2}
