"""Files as memory-mapped bytes; another process that truncates one is told of, and does not end this process.

A page that a file has lost, because it was truncated or its disk fails, is a bus error (SIGBUS) to whoever reads it: a
decoder, or the user's code. On Linux a handler names the file on stderr then. Where the owner of the mapping gave a
list of lost files, it puts zeros in place of the pages, and the owner raises an error; elsewhere the process ends.
Price: none while nothing is lost. The handler runs Python while another function reads the page; nothing is half
changed there but what that function reads into.
"""

import ctypes
import mmap
import os
import signal
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

_SUPPORTED = sys.platform == "linux" and sys.maxsize > 2**32
_SA_SIGINFO = 4
_FAULT_ADDRESS = 16  # offset of si_addr in siginfo_t, on 64-bit Linux
_PROT_READ, _PRIVATE_FIXED_ANONYMOUS = 0x01, 0x02 | 0x10 | 0x20


class _Action(ctypes.Structure):
    """``struct sigaction`` of glibc and musl on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


@dataclass(eq=False, slots=True)
class _Mapping:
    """Where a file is mapped, while anyone holds a view."""

    name: str
    lost: list[str] | None
    start: int  # address
    size: int  # bytes


_mappings: dict[_Mapping, None] = {}  # the newest last
_previous = _Action()  # what SIGBUS did before
_kept: list[Any] = []  # the handler and libc; Any: ctypes


def map_file(file: int, name: str, lost: list[str] | None = None) -> memoryview:
    """A file's bytes, mapped as long as anyone holds a view.

    ``name`` is the file, for messages. It is added to ``lost`` when bytes were gone and zeros were read in their place;
    without a list the process ends then.
    """
    size = os.fstat(file).st_size
    if not size:
        return memoryview(b"")
    mapped = mmap.mmap(file, size, access=mmap.ACCESS_READ)
    view = memoryview(mapped)
    if _SUPPORTED:
        _install()  # each time: a forked worker of torch has replaced it
        start = np.frombuffer(view, np.uint8).ctypes.data
        mapping = _Mapping(name, lost, start, size)
        _mappings[mapping] = None
        # Called behind munmap, which lets other threads run: by then the address may be that of another mapping.
        weakref.finalize(mapped, _mappings.pop, mapping, None)
    return view


def _install() -> None:
    if not _kept:
        _kept[:] = _handler_and_libc()
    handler, libc = _kept
    address = ctypes.cast(handler, ctypes.c_void_p).value
    action, before = _Action(handler=address, flags=_SA_SIGINFO), _Action()
    libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), ctypes.byref(before))
    if before.handler != address:
        ctypes.pointer(_previous)[0] = before


def _handler_and_libc() -> list[Any]:  # Any: ctypes
    libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_on_bus_error)
    return [handler, libc]


def _on_bus_error(_number: int, information: int, _context: int) -> None:
    """What the kernel calls; when it returns, the read is tried again."""
    survives = False
    try:
        address = ctypes.c_void_p.from_address(information + _FAULT_ADDRESS).value or 0
        mapping = next((each for each in reversed(list(_mappings)) if 0 <= address - each.start < each.size), None)
        if mapping is not None:
            survives = mapping.lost is not None and _put_zeros(mapping, address)
            then = "zeros are read in their place" if survives else "this process ends"
            os.write(2, f"stoker: {mapping.name}: bytes were lost while it was read, as if cut off; {then}\n".encode())
            if mapping.lost is not None:
                mapping.lost.append(mapping.name)
    finally:
        if not survives:  # the read is tried again, and fails as it would have without us
            _kept[1].sigaction(int(signal.SIGBUS), ctypes.byref(_previous), None)


def _put_zeros(mapping: _Mapping, address: int) -> bool:
    """Map zeros from the page of an address to the end of the file's bytes."""
    page = address - address % mmap.PAGESIZE
    size = mapping.start + mapping.size - page
    return bool(_kept[1].mmap(page, size, _PROT_READ, _PRIVATE_FIXED_ANONYMOUS, -1, 0) == page)
