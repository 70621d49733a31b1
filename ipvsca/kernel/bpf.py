"""BPF objects by file descriptor: pin, link, ask, look up. A thin typed layer over libbpf, which bcc brings along.

Every function raises OSError with the kernel's errno where a call fails. Descriptors are closed by whoever opened them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from ipvsca.kernel.programs import AttachType, ProgramType

BATCH = 4096  # entries in one call; more than a bucket of a hash ever holds
ANY = 0  # BPF_ANY: make or replace
BPF_STATS_RUN_TIME = 0

Info = TypeVar("Info", bound=ctypes.Structure)


class MapInfo(ctypes.Structure):
    """The beginning of struct bpf_map_info (linux/bpf.h)."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class ProgramInfo(ctypes.Structure):
    """The beginning of struct bpf_prog_info (linux/bpf.h); what the kernel would copy elsewhere is not asked for."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("lengths_and_lists", ctypes.c_uint8 * 176),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
    ]


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info (linux/bpf.h), for a cgroup's link. `cgroup_id` is 0 once that is gone, or the link off."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("program_id", ctypes.c_uint32),
        ("cgroup_id", ctypes.c_uint64),
        ("attach_type", ctypes.c_uint32),
    ]


@cache
def _libbpf() -> ctypes.CDLL:
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def _checked(result: int, path: Path | None = None) -> int:
    """libbpf gives the negative errno (older releases: -1 and errno)."""
    if result >= 0:
        return result
    code = ctypes.get_errno() if result == -1 else -result
    raise OSError(code, os.strerror(code), *([str(path)] if path else []))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The object pinned at `path`, for the length of a `with` block."""
    fd = get(path)
    try:
        yield fd
    finally:
        os.close(fd)


def has_helper(program: ProgramType, helper: int) -> bool:
    """Whether this kernel lets programs of a type call a helper, by its number in enum bpf_func_id of linux/bpf.h."""
    return _checked(_libbpf().libbpf_probe_bpf_helper(program, helper, None)) == 1


def get(path: Path) -> int:
    """Open the object pinned at `path`."""
    return _checked(_libbpf().bpf_obj_get(os.fsencode(path)), path)


def pin(fd: int, path: Path) -> None:
    """Pin an object; whatever is pinned at `path` is replaced in one step."""
    new = beside(path)
    new.unlink(missing_ok=True)
    _checked(_libbpf().bpf_obj_pin(fd, os.fsencode(new)), new)
    new.rename(path)


def beside(path: Path) -> Path:
    """Where an object is pinned for a moment, before it takes the place of another. (bpffs takes no dots.)"""
    return path.with_name(f"{path.name}-new")


def program_id(fd: int) -> int:
    """The kernel's id of a program, as bpftool shows it."""
    return int(_info(fd, ProgramInfo).id)


def program_info(fd: int) -> ProgramInfo:
    """A program's id, and how long and how often it has run while the kernel measured that."""
    return _info(fd, ProgramInfo)


def measure_run_times() -> int:
    """Have the kernel measure every program's run time, as long as the descriptor that this gives is open."""
    return _checked(_libbpf().bpf_enable_stats(BPF_STATS_RUN_TIME))


def program_by_id(number: int) -> int:
    """Open a program by the kernel's id."""
    return _checked(_libbpf().bpf_prog_get_fd_by_id(ctypes.c_uint32(number)))


def map_info(fd: int) -> MapInfo:
    """Type and sizes of a map."""
    return _info(fd, MapInfo)


def link_info(fd: int) -> LinkInfo:
    """Program and cgroup of a link."""
    return _info(fd, LinkInfo)


def link_create(program: int, cgroup: int, attach: AttachType) -> int:
    """Attach a program to a cgroup (an open directory), beside other programs. Gives the link's descriptor."""
    return _checked(_libbpf().bpf_link_create(program, cgroup, int(attach), None))


def link_update(link: int, program: int) -> None:
    """Put another program in a link's place, in one step: no event sees neither."""
    _checked(_libbpf().bpf_link_update(link, program, None))


def link_detach(link: int) -> None:
    """Take a link's program off at once, whoever else holds the link. One whose cgroup is gone is off already.

    A link ends by itself when its last pin and descriptor go, but some milliseconds later: the kernel leaves it to a
    work queue.
    """
    _checked(_libbpf().bpf_link_detach(link))


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value under a key, or None."""
    value = ctypes.create_string_buffer(value_size)
    result = _libbpf().bpf_map_lookup_elem(fd, key, value)
    return value.raw if _present(result) else None


def update(fd: int, key: bytes, value: bytes) -> None:
    """Write a value, new or not."""
    _checked(_libbpf().bpf_map_update_elem(fd, key, value, ctypes.c_uint64(ANY)))


def delete(fd: int, key: bytes) -> bool:
    """Take a key out. False where it is not in the map."""
    return _present(_libbpf().bpf_map_delete_elem(fd, key))


def keys(fd: int, key_size: int) -> Iterator[bytes]:
    """All keys. Keys that come or go meanwhile may be missed or given twice."""
    key: ctypes.Array[ctypes.c_char] | None = None
    following = ctypes.create_string_buffer(key_size)
    while _present(_libbpf().bpf_map_get_next_key(fd, key, following)):
        yield following.raw
        key = ctypes.create_string_buffer(following.raw, key_size)


def batches(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """All entries of a hash, many at a time. What comes or goes meanwhile may be missed or given twice."""
    keys_, values = (ctypes.create_string_buffer(size * BATCH) for size in (key_size, value_size))
    position = ctypes.create_string_buffer(key_size)
    started = None
    more = True
    while more:
        count = ctypes.c_uint32(BATCH)
        more = _present(_libbpf().bpf_map_lookup_batch(fd, started, position, keys_, values, ctypes.byref(count), None))
        yield keys_.raw[: count.value * key_size], values.raw[: count.value * value_size]
        started = position


def update_batch(fd: int, keys_: bytes, values: bytes, count: int) -> None:
    """Write many entries of a hash in one call: keys one behind the other, and their values. Raises OSError."""
    _checked(_libbpf().bpf_map_update_batch(fd, keys_, values, ctypes.byref(ctypes.c_uint32(count)), None))


def _present(result: int) -> bool:
    if result == -errno.ENOENT or (result == -1 and ctypes.get_errno() == errno.ENOENT):
        return False
    return _checked(result) == 0


def _info(fd: int, kind: type[Info]) -> Info:
    info = kind()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    _checked(_libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)))
    return info
