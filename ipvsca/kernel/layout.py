"""The maps' keys and values as Python sees them: the twin of bpf/types.h. The loader refuses a mismatch.

Numbers are in host byte order but for ports, which the programs keep as they stand on the wire.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ipvsca.address import Address, Endpoint, from_mapped, to_mapped


class LearntFrom(IntEnum):
    """Where a client was learnt: enum learnt_from of bpf/types.h."""

    ACK = 1
    SYN = 2
    ANNOUNCEMENT = 3
    CONNECT = 4
    IPO = 5
    OPP = 6


class PackedAddress(ctypes.Structure):
    """struct address: 16 bytes, IPv4 as v4-mapped."""

    _fields_ = [("word", ctypes.c_uint32 * 4)]

    @classmethod
    def of(cls, address: Address) -> PackedAddress:
        return cls.from_buffer_copy(to_mapped(address))

    @property
    def address(self) -> Address:
        return from_mapped(bytes(self))


class Client(ctypes.Structure):
    """struct client."""

    _fields_ = [
        ("address", PackedAddress),
        ("port", ctypes.c_uint16),
        ("learnt_from", ctypes.c_uint8),
        ("is_doubtful", ctypes.c_uint8),
        ("is_ambiguous", ctypes.c_uint8),
        ("has_reply", ctypes.c_uint8),
        ("is_shared", ctypes.c_uint8),
        ("pad", ctypes.c_uint8),
        ("learnt_ns", ctypes.c_uint64),
    ]

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.address.address, socket.ntohs(self.port))


class Handshake(ctypes.Structure):
    """struct handshake."""

    _fields_ = [
        ("lip", PackedAddress),
        ("rip", PackedAddress),
        ("lport", ctypes.c_uint16),
        ("rport", ctypes.c_uint16),
        ("isn", ctypes.c_uint32),
    ]

    @property
    def director(self) -> Endpoint:
        """LIP:lport, what the application would see without us."""
        return Endpoint(self.lip.address, socket.ntohs(self.lport))

    @property
    def server(self) -> Endpoint:
        """RIP:rport, the address that the client's connection arrived at."""
        return Endpoint(self.rip.address, socket.ntohs(self.rport))


class Flow(ctypes.Structure):
    """struct flow."""

    _fields_ = [
        ("lip", PackedAddress),
        ("rip", PackedAddress),
        ("lport", ctypes.c_uint16),
        ("rport", ctypes.c_uint16),
        ("protocol", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
    ]


class FlowKey(ctypes.Structure):
    """struct flow_key. `rip_mark` is 0 in the entry that every flow has; Learnt.rip tells where the flow goes."""

    _fields_ = [
        ("lip", PackedAddress),
        ("lport", ctypes.c_uint16),
        ("rport", ctypes.c_uint16),
        ("protocol", ctypes.c_uint8),
        ("rip_mark", ctypes.c_uint8 * 3),
    ]

    @property
    def director(self) -> Endpoint:
        """LIP:lport, what the application would see without us."""
        return Endpoint(self.lip.address, socket.ntohs(self.lport))


class Learnt(ctypes.Structure):
    """struct learnt."""

    _fields_ = [
        ("identity", ctypes.c_uint64),
        ("used_ns", ctypes.c_uint64),
        ("client", Client),
        ("rip", PackedAddress),
    ]


IS_AMBIGUOUS_AT = Learnt.client.offset + Client.is_ambiguous.offset
"""Where that byte is in a value of flows."""


class Reply(ctypes.Structure):
    """struct reply."""

    _fields_ = [
        ("client", PackedAddress),
        ("cport", ctypes.c_uint16),
        ("rport", ctypes.c_uint16),
        ("rip_mark", ctypes.c_uint32),
    ]


class Hints(ctypes.Structure):
    """struct hints."""

    _fields_ = [("is_used", ctypes.c_uint8 * 8192)]


class PackedEndpoint(ctypes.Structure):
    """struct endpoint."""

    _fields_ = [("address", PackedAddress), ("port", ctypes.c_uint16), ("pad", ctypes.c_uint8 * 2)]


class WayBack(ctypes.Structure):
    """struct way_back."""

    _fields_ = [("reply", Reply), ("way", PackedEndpoint)]


class SpinLock(ctypes.Structure):
    """struct bpf_spin_lock."""

    _fields_ = [("val", ctypes.c_uint32)]


class Director(ctypes.Structure):
    """struct director."""

    _fields_ = [
        ("lock", SpinLock),
        ("client", PackedEndpoint),
        ("local", PackedEndpoint),
        ("pad", ctypes.c_uint8 * 4),
        ("learnt_ns", ctypes.c_uint64),
    ]


class Received(ctypes.Structure):
    """struct received."""

    _fields_ = [("flow", Flow), ("thread", ctypes.c_uint64)]


class Prefix(ctypes.Structure):
    """struct prefix, the key of an LPM trie. `length` is in bits of the 16-byte form."""

    _fields_ = [("length", ctypes.c_uint32), ("address", PackedAddress)]


class Settings(ctypes.Structure):
    """struct settings."""

    _fields_ = [
        ("kinds", ctypes.c_uint64 * 4),
        ("tcp_timeout_ns", ctypes.c_uint64),
        ("udp_timeout_ns", ctypes.c_uint64),
        ("tcp_connect", ctypes.c_uint32),
        ("udp_restore", ctypes.c_uint32),
        ("option_in_syn", ctypes.c_uint32),
        ("option_in_ack", ctypes.c_uint32),
    ]


class Counter(ctypes.Structure):
    """struct counter, one a CPU."""

    _fields_ = [("count", ctypes.c_uint64), ("last_ns", ctypes.c_uint64), ("last_source", PackedAddress)]


class Swept(ctypes.Structure):
    """struct swept."""

    _fields_ = [("expired", ctypes.c_uint64), ("evicted", ctypes.c_uint64)]


class Placed(ctypes.Structure):
    """struct placed."""

    _fields_ = [("name", ctypes.c_char * 16)]


class Place(ctypes.Structure):
    """struct place."""

    _fields_ = [("digits", ctypes.c_char * 16)]


class Build(ctypes.Structure):
    """struct build."""

    _fields_ = [
        ("digest", ctypes.c_char * 64),
        ("version", ctypes.c_char * 32),
        ("lookup", ctypes.c_char * 16),
        ("loaded_ns", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Field:
    """Where a field lies. Bytes; an array has several elements."""

    name: str
    """With those of the structures that it is in."""
    offset: int
    elements: int
    size: int
    """Of one element."""


def fields(kind: Any, name: str = "", at: int = 0) -> Iterator[Field]:
    """Everything in a ctypes type that is no structure itself."""
    if issubclass(kind, ctypes.Structure):
        for inner, inner_kind, *_ in kind._fields_:
            yield from fields(inner_kind, f"{name}.{inner}", at + getattr(kind, inner).offset)
    elif issubclass(kind, ctypes.Array):
        yield Field(name, at, kind._length_, ctypes.sizeof(kind._type_))
    else:
        yield Field(name, at, 1, ctypes.sizeof(kind))
