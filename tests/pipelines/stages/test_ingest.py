"""What becomes of a candidate between its source and its part."""

from stoker.pipelines.source import Candidate
from stoker.pipelines.stages.ingest import apply_steps
from stoker.storage.shards.sample import Sample
from tests.fakes import recipe
from tests.pipelines.pictures import packed, picture


def test_white_space_before_an_image_is_not_stored() -> None:
    payload = packed(picture(60, 40))
    candidate = Candidate(Sample("a", {"jpg": b"\r\n" + payload, "txt": b"\n a caption"}, {"url": "test:a"}))
    sample, rejected, _ = apply_steps(recipe(("a",)), candidate)
    assert rejected is None
    assert sample.fields == {"jpg": payload, "txt": b"\n a caption"}
