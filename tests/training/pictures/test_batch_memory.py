"""Batch memory is reused only when no array or tensor refers to it."""

import gc

from stoker.training.pictures.batch_memory import BatchMemory


def test_memory_is_reused_when_nothing_refers_to_it_and_never_before() -> None:
    pool = BatchMemory()
    array, tensor = pool.take((4, 8, 8, 3))
    address = array.ctypes.data
    assert tensor.data_ptr() == address
    part = tensor[1:, :, 2]
    del array, tensor
    gc.collect()
    held, _ = pool.take((4, 8, 8, 3))
    assert held.ctypes.data != address  # a view of the first is still held
    del part
    gc.collect()
    again, _ = pool.take((8, 4, 8, 3))
    assert again.ctypes.data == address
