"""Which directors there are: what is open through each at this moment, who was seen as one, whom to trust for that."""

from __future__ import annotations

import ctypes
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from ipvsca.address import Address, from_mapped
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.sockets import restored_connections
from ipvsca.settings import DEFAULTS, Network

_POOL_BITS = {4: 24, 6: 64}
"""By IP version the length of a prefix that holds the local addresses of a director, as they are usually given out."""

_MANY = 8
"""More addresses of one pool than this are named by the pool's prefix."""

_TCP_RESTORED = ("tcp_restored_ack", "tcp_restored_syn", "tcp_restored_announcement")
_BELIEVED = (*_TCP_RESTORED, "announcement_learnt", "ipo_learnt", "opp_learnt")
"""Counters of what directors said. A SYN whose handshake has not ended proves nothing, and is not among them."""

_KEY = ctypes.sizeof(layout.FlowKey)
_VALUE = ctypes.sizeof(layout.Learnt)
_LIP = slice(layout.FlowKey.lip.offset, layout.FlowKey.lip.offset + layout.FlowKey.lip.size)
_WIDTH = ctypes.sizeof(layout.PackedAddress)


@dataclass(frozen=True)
class Director:
    """One LIP: TCP connections of this network namespace that have their client from it, flows in the table."""

    address: Address
    connections: int
    flows: int


def directors(plane: DataPlane) -> list[Director]:
    """The busiest first. Goes through all sockets and flows: a million take about a second. Raises Problem."""
    connections = Counter(each.director.address for each in restored_connections(plane.table("clients").fd))
    flows = _flows(plane)
    found = [Director(address, connections[address], flows[address]) for address in connections | flows]
    return sorted(found, key=lambda each: (-each.connections - each.flows, str(each.address)))


def narrower_trust(plane: DataPlane) -> tuple[Network, ...] | None:
    """What `trusted` could be, going by the directors seen; None where it is narrow enough, or nobody was seen.

    Raises Problem. Takes as long as `directors`, and no time where `trusted` is narrow.
    """
    trusted = plane.settings().trusted
    return None if all(map(_is_meant, trusted)) else narrowed(trusted, seen(plane))


def narrowed(trusted: Collection[Network], lips: Iterable[Address]) -> tuple[Network, ...] | None:
    """Of `trusted` what is narrow and no default, and instead of the rest those of `lips` in it; None as above."""
    meant = [network for network in trusted if _is_meant(network)]
    believed = [address for address in lips if _is_in(address, trusted)]
    proposed = {*meant, *_pools(address for address in believed if not _is_in(address, meant))}
    if not believed or proposed == set(trusted):
        return None
    return tuple(sorted(proposed, key=lambda network: (network.version, network)))


def seen(plane: DataPlane) -> set[Address]:
    """Everybody who told a client and was believed, as far as that is remembered: LIPs. Raises Problem.

    What is open tells, and so do the ways back, which stay when a connection or flow has ended, until their place is
    needed.
    """
    return {director.address for director in directors(plane)} | plane.last_sources(_BELIEVED) | _ways_back(plane)


def _ways_back(plane: DataPlane) -> set[Address]:
    """The LIPs through which clients are answered."""
    lips: set[bytes] = set()
    for name, offset in (("connects", layout.Director.local.offset), ("replies", 0)):
        size = ctypes.sizeof(KEYS_AND_VALUES[name][1])
        for _, values in plane.table(name).batches():
            lips |= {values[at : at + _WIDTH] for at in range(offset, len(values), size)}
    return set(map(from_mapped, lips - {bytes(_WIDTH)}))  # where `connects` has none


def _is_meant(network: Network) -> bool:
    """Whether this prefix names directors, and not a network in which they are somewhere."""
    return network.prefixlen >= _POOL_BITS[network.version] and network not in DEFAULTS.trusted


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _pools(addresses: Iterable[Address]) -> Iterator[Network]:
    """Each address, or where there are many in one pool, that one."""
    pools = defaultdict(set)
    for address in addresses:
        pools[ip_network((address, _POOL_BITS[address.version]), strict=False)].add(ip_network(address))
    for pool, members in pools.items():
        yield from members if len(members) <= _MANY else [pool]


def _flows(plane: DataPlane) -> Counter[Address]:
    """Slices of bytes, because a loop over a million structures takes seconds."""
    found: Counter[bytes] = Counter()
    for keys, values in plane.table("flows").batches():
        is_ambiguous = values[layout.IS_AMBIGUOUS_AT :: _VALUE]
        found.update(
            keys[at + _LIP.start : at + _LIP.stop]
            for at, leads_to_others in zip(range(0, len(keys), _KEY), is_ambiguous, strict=True)
            if not leads_to_others
        )
    return Counter({from_mapped(lip): count for lip, count in found.items()})
