"""Indexes of shards as arrays."""

import pytest

from stoker.storage.shards import records
from stoker.storage.shards.index import ShardIndex


@pytest.mark.parametrize("count", [0, 1, 70_000])  # the last one in two row groups
def test_every_sample_has_its_places(count: int) -> None:
    fields = [("jpg",), ("jpg", "json"), ("json",), ()]
    rows = []
    for number in range(count):
        members = [
            {"extension": extension, "offset": 4096 * number + 512 * place, "size": number % 100}
            for place, extension in enumerate(fields[number % 4])
        ]
        rows.append({"key": f"{number}", "start": 4096 * number, "stop": 4096 * (number + 1), "members": members})
    index = ShardIndex.decode(records.encode(rows), "x", size=4096 * count)
    assert index.keys.to_pylist() == [row["key"] for row in rows]
    assert index.starts.tolist() == [4096 * number for number in range(count)]
    for extension in index.extensions:
        code = index.extensions.index(extension)
        expected = [
            next(((one["offset"], one["size"]) for one in row["members"] if one["extension"] == extension), (-1, -1))  # type: ignore[attr-defined]
            for row in rows
        ]
        assert list(zip(index.offsets[code].tolist(), index.sizes[code].tolist(), strict=True)) == expected
    assert set(index.extensions) == {extension for row in rows for extension in fields[int(row["key"]) % 4]}  # type: ignore[call-overload]
