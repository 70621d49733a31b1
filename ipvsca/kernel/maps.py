"""The pinned maps, opened by name and typed: bytes of the kernel in, structures of layout.py out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from ipvsca.errors import Problem
from ipvsca.kernel import bpf, layout

# Structures and simple C types; ctypes has no public name for what they have in common.
Key = TypeVar("Key", bound=Any)
Value = TypeVar("Value", bound=Any)

KEYS_AND_VALUES: dict[str, tuple[type, type]] = {
    "clients": (ctypes.c_int32, layout.Client),
    "handshakes": (layout.Handshake, layout.Client),
    "flows": (layout.FlowKey, layout.Learnt),
    "hints": (ctypes.c_uint32, layout.Hints),
    "replies": (layout.Reply, layout.PackedEndpoint),
    "latest": (ctypes.c_uint32, layout.WayBack),
    "connects": (ctypes.c_uint32, layout.Director),
    "last_received": (ctypes.c_int32, layout.Received),
    "trusted": (layout.Prefix, ctypes.c_uint8),
    "settings": (ctypes.c_uint32, layout.Settings),
    "counters": (ctypes.c_uint32, layout.Counter),
    "swept": (ctypes.c_uint32, layout.Swept),
    # Behind what it tells of: an unload that is killed leaves no map without what is noted of it.
    "layouts": (layout.Placed, layout.Place),
    "build": (ctypes.c_uint32, layout.Build),
}
"""Every map of bpf/maps.h."""

ONLY = ctypes.c_uint32(0)
"""The key of a map that has one entry."""


class Table(Generic[Key, Value]):
    """One pinned map. Raises OSError where it cannot be opened, read or written."""

    def __init__(self, path: Path, key: type[Key], value: type[Value]) -> None:
        self.path = path
        self.fd = bpf.get(path)
        self._key = key
        self._value = value

    def close(self) -> None:
        os.close(self.fd)

    def get(self, key: Key) -> Value | None:
        """The value under a key, or None."""
        found = bpf.lookup(self.fd, bytes(key), ctypes.sizeof(self._value))
        return None if found is None else self._value.from_buffer_copy(found)

    def get_per_cpu(self, key: Key) -> list[Value]:
        """The value of each possible CPU, of a per-CPU map."""
        stride = -(-ctypes.sizeof(self._value) // 8) * 8
        found = bpf.lookup(self.fd, bytes(key), stride * possible_cpus()) or b""
        return [self._value.from_buffer_copy(found, at) for at in range(0, len(found), stride)]

    def put(self, key: Key, value: Value) -> None:
        """Write a value, new or not."""
        bpf.update(self.fd, bytes(key), bytes(value))

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """Write many entries of a hash in one call, keys and values as bytes: all, or none where it is killed."""
        bpf.update_batch(self.fd, b"".join(entries), b"".join(entries.values()), len(entries))

    def remove(self, key: Key) -> bool:
        """Take a key out. False where it was not there."""
        return bpf.delete(self.fd, bytes(key))

    def keys(self) -> Iterator[Key]:
        """All keys, as far as they do not change meanwhile."""
        for key in bpf.keys(self.fd, ctypes.sizeof(self._key)):
            yield self._key.from_buffer_copy(key)

    def items(self) -> Iterator[tuple[Key, Value]]:
        """All entries, as far as they do not change meanwhile."""
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of a hash, many at a time: keys one behind the other, and their values."""
        return bpf.batches(self.fd, ctypes.sizeof(self._key), ctypes.sizeof(self._value))

    def batched_items(self) -> Iterator[tuple[Key, Value]]:
        """All entries of a hash; with fewer calls than items(), and none forever where entries come and go."""
        key_size, value_size = ctypes.sizeof(self._key), ctypes.sizeof(self._value)
        for keys, values in self.batches():
            for index in range(len(keys) // key_size):
                yield (
                    self._key.from_buffer_copy(keys, index * key_size),
                    self._value.from_buffer_copy(values, index * value_size),
                )

    @property
    def max_entries(self) -> int:
        return int(bpf.map_info(self.fd).max_entries)

    def mismatch(self, max_entries: int | None = None) -> str | None:
        """How this map differs from layout.py in its sizes, or from a number of entries; None where it does not."""
        info = bpf.map_info(self.fd)
        found = (info.key_size, info.value_size)
        expected = (ctypes.sizeof(self._key), ctypes.sizeof(self._value))
        if found != expected:
            return f"{self.path.name}: key and value of {found} bytes, not {expected}"
        if max_entries not in (None, info.max_entries):
            return f"{self.path.name}: {info.max_entries} entries, not {max_entries}"
        return None


def open_table(folder: Path, name: str) -> Table[Any, Any]:
    """Open one of KEYS_AND_VALUES pinned in `folder`.

    Raises Problem where it is not there, cannot be read, or has other sizes: the kernel would write past our buffers.
    """
    table = open_unchecked(folder, name)
    if difference := table.mismatch():
        table.close()
        raise Problem(f"{folder.parent} holds maps of another version ({difference}): `ipvsca unload`, then load again")
    return table


def open_unchecked(folder: Path, name: str) -> Table[Any, Any]:
    """The same, only to ask for its sizes."""
    key, value = KEYS_AND_VALUES[name]
    try:
        (folder / name).lstat()  # bpf(2) of Linux 5.10 tells only root that there is nothing
        return Table(folder / name, key, value)
    except FileNotFoundError:
        raise Problem(f"nothing is loaded at {folder.parent}: run `ipvsca load`") from None
    except PermissionError:
        raise Problem(f"{folder / name} cannot be opened: run as root (sudo)") from None
    except OSError as error:  # e.g. a file in the way, or a name too long
        raise Problem(f"{folder / name} cannot be opened: {error.strerror}; look at `pin_path`") from None


@cache
def possible_cpus() -> int:
    """How many CPUs this kernel can have: per-CPU maps have a value for each."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
    return int(ranges[-1].rpartition("-")[2]) + 1
