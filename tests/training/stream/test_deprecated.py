"""Old names of public methods still work, and warn."""

import dataclasses

import pytest

from stoker.testing import sample_corpus
from stoker.training.errors import CorruptSample
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream
from tests.training.conftest import Small


def test_old_names_of_a_streams_methods_do_the_same_and_warn(letters: Small) -> None:
    stream = ShardStream(letters.store, letters.manifest, batch_size=4, cache=letters.cache)
    with pytest.warns(DeprecationWarning, match="ShardStream.wanted is called locate now"):
        located = stream.wanted(0, 0, 4)
    with pytest.warns(DeprecationWarning, match="ShardStream.share_of is called locate_share now"):
        assert len(stream.share_of(0, 0)) == len(located) == 1
    with pytest.warns(DeprecationWarning, match="ShardStream.gathered is called fetch_samples now"):
        samples = stream.gathered(located)
    with pytest.warns(DeprecationWarning, match="ShardStream.made is called assemble_batch now"):
        assert stream.made(samples, 0).keys == stream.batch(0, 0).keys
    with pytest.warns(DeprecationWarning, match="ShardStream.expect is called prefetch now"):
        stream.expect(0, 4)
    with pytest.warns(DeprecationWarning, match=r"ShardStream.cache_of_shards is called shard_order\.cache now"):
        assert stream.cache_of_shards is stream.shard_order.cache
    with pytest.warns(DeprecationWarning, match="ShardStream.step is called advance now"):
        stream.step()
    assert stream.delivered == 4
    with pytest.warns(DeprecationWarning, match="ShardStream.turn is called next_epoch now"):
        stream.turn()
    assert (stream.epoch, stream.delivered) == (1, 0)
    with pytest.warns(DeprecationWarning, match="ShardStream.settle is called wait_verified now"):
        stream.settle()
    stream.close()


def test_the_old_names_of_a_text_streams_methods_do_the_same_and_warn(handbook: Small) -> None:
    stream = TextStream(handbook.store, handbook.manifest, batch_size=2, cache=handbook.cache)
    with pytest.warns(DeprecationWarning, match="TextStream.step is called advance now"):
        stream.step()
    assert stream.delivered == 2
    stream.close()


def test_an_option_that_is_set_after_a_stream_was_made_is_refused() -> None:
    stream = ShardStream(*sample_corpus(12), batch_size=4)
    with pytest.raises(AttributeError, match=r"batch_size is fixed .* dataclasses.replace\(stream, batch_size=...\)"):
        stream.batch_size = 6
    assert dataclasses.replace(stream, batch_size=6).batch_size == 6


def test_the_old_name_of_a_corrupt_samples_index_warns() -> None:
    with pytest.warns(DeprecationWarning, match="CorruptSample.place is now called index"):
        assert CorruptSample(3, "cut").place == 3
