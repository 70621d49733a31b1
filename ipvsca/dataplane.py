"""What the loaded programs know: settings, counters, handshakes.

Read and written in the pinned maps; no daemon is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from ipvsca import counters
from ipvsca.address import V4_MAPPED, Address, to_mapped
from ipvsca.errors import Problem
from ipvsca.kernel import clock, layout
from ipvsca.kernel.maps import KEYS_AND_VALUES, ONLY, Table, open_table, open_unchecked, possible_cpus
from ipvsca.layouts import layouts
from ipvsca.settings import DEFAULTS, Network, SegmentsWithOption, Settings

NANOSECONDS = clock.NANOSECONDS
_MAPPED_BITS = V4_MAPPED.prefixlen
_ALL_IPV4 = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True)
class Count:
    """A counter's state.

    `last_ns` is of the programs' clock (kernel/clock.py), 0 for never or unknown; `last_source` is the director (or
    forger) of that event.
    """

    meaning: counters.Meaning
    per_cpu: tuple[int, ...]
    last_ns: int
    last_source: Address | None

    @property
    def total(self) -> int:
        return sum(self.per_cpu)

    @property
    def last_seconds_ago(self) -> float | None:
        """None for never or unknown."""
        return (clock.now_ns() - self.last_ns) / NANOSECONDS if self.last_ns else None


class DataPlane:
    """The maps pinned under a folder. A context manager; raises Problem where nothing is loaded there."""

    def __init__(self, pin_path: Path) -> None:
        self._folder = pin_path / "maps"
        self._open: dict[str, Table[Any, Any]] = {}

    def __enter__(self) -> DataPlane:
        return self

    def __exit__(self, *_: object) -> None:
        for table in self._open.values():
            table.close()
        self._open.clear()

    def table(self, name: str) -> Table[Any, Any]:
        """One of the maps, opened when first asked for. Raises Problem where it is not there, or another version's."""
        if name not in self._open:
            if others := self._others():
                raise Problem(
                    f"{self._folder.parent} holds maps of another version ({'; '.join(others)}): "
                    "use that one, or `ipvsca unload`, then load again; clients known until then are lost"
                )
            self._open[name] = open_table(self._folder, name)
        return self._open[name]

    def _others(self) -> list[str]:
        """Where something else stands in the maps than this ipvsca would look for."""
        try:
            table = open_unchecked(self._folder, "layouts")
        except Problem:
            return []  # whoever opens another map will be told
        with closing(table):
            if difference := table.mismatch():
                return [difference]
            noted = [(key.name.decode(), value.digits) for key, value in table.batched_items()]
        differing = {what.partition(" ")[0] for what, digits in noted if layouts().get(what, digits) != digits}
        return [f"{name}: other contents" for name in sorted(differing)]

    def mismatches(self, max_flows: int) -> list[str]:
        """Maps that are there, and not as programs of this ipvsca expect them."""
        sizes = {"flows": max_flows, "replies": max_flows, "counters": counters.MAX_COUNTERS}
        differences = []
        for name in KEYS_AND_VALUES:
            if (self._folder / name).exists():
                table = open_unchecked(self._folder, name)
                differences.append(table.mismatch(sizes.get(name)))
                table.close()
        return [difference for difference in differences if difference] or self._others()

    def build(self) -> layout.Build:
        """What was loaded. An empty digest means that a load was not finished."""
        return self.table("build").get(ONLY) or layout.Build()

    def whole_build(self) -> layout.Build:
        """The same. Raises Problem where a load is under way, or was not finished."""
        build = self.build()
        if not build.digest:
            raise Problem(f"a load at {self._folder.parent} was interrupted: `ipvsca load`")
        return build

    def settings(self) -> Settings:
        """The settings in force, as far as the programs know them; defaults for the others."""
        running = self.table("settings").get(ONLY) or layout.Settings()
        return replace(
            DEFAULTS,
            tcpopt_addr=tuple(kind for kind in range(256) if running.kinds[kind // 64] >> kind % 64 & 1),
            tcpopt_in=SegmentsWithOption.of(syn=bool(running.option_in_syn), ack=bool(running.option_in_ack)),
            tcp_timeout=running.tcp_timeout_ns // NANOSECONDS,
            udp_timeout=running.udp_timeout_ns // NANOSECONDS,
            tcp_connect=bool(running.tcp_connect),
            udp_restore=bool(running.udp_restore),
            max_flows=self.table("flows").max_entries,
            trusted=self._trusted(),
        )

    def apply(self, settings: Settings) -> None:
        """Put settings into force. A prefix that stays trusted is trusted all the time."""
        running = layout.Settings(
            tcp_timeout_ns=settings.tcp_timeout * NANOSECONDS,
            udp_timeout_ns=settings.udp_timeout * NANOSECONDS,
            tcp_connect=settings.tcp_connect,
            udp_restore=settings.udp_restore,
            option_in_syn=settings.tcpopt_in.syn,
            option_in_ack=settings.tcpopt_in.ack,
        )
        for kind in settings.tcpopt_addr:
            running.kinds[kind // 64] |= 1 << kind % 64
        self.table("settings").put(ONLY, running)
        self._trust(settings.trusted)

    def _trusted(self) -> tuple[Network, ...]:
        entries = self.table("trusted").items()
        networks = [_to_network(prefix) for prefix, is_trusted in entries if is_trusted.value]
        return tuple(sorted(networks, key=lambda network: (network.version, network)))

    def _trust(self, networks: Iterable[Network]) -> None:
        table = self.table("trusted")
        # Without an entry of its own IPv4, being v4-mapped, would be trusted by a prefix like ::/0.
        wanted = {_ALL_IPV4: False} | dict.fromkeys(networks, True)
        stays = set()
        for network, is_trusted in wanted.items():
            prefix = _to_prefix(network)
            table.put(prefix, ctypes.c_uint8(is_trusted))
            stays.add(bytes(prefix))
        for prefix in list(table.keys()):
            if bytes(prefix) not in stays:
                table.remove(prefix)

    def counts(self) -> dict[str, Count]:
        """Every counter by name."""
        table = self.table("counters")
        counts = {
            meaning.name: _count(meaning, table.get_per_cpu(ctypes.c_uint32(meaning.index)))
            for meaning in counters.meanings()
        }
        swept = self.swept()
        others = (0,) * (possible_cpus() - 1)
        swept_counts = {
            meaning.name: Count(meaning, (getattr(swept, field), *others), 0, None)
            for field, meaning in counters.SWEPT.items()
        }
        return counts | swept_counts

    def last_sources(self, names: Collection[str]) -> set[Address]:
        """The directors of the last event that each CPU remembers, of these counters."""
        table = self.table("counters")
        indices = [meaning.index for meaning in counters.meanings() if meaning.name in names]
        values = [value for index in indices for value in table.get_per_cpu(ctypes.c_uint32(index))]
        return {value.last_source.address for value in values if value.last_ns}

    def swept(self) -> layout.Swept:
        """What sweeps took out of the flows, and what the kernel dropped to make room."""
        return self.table("swept").get(ONLY) or layout.Swept()

    def flows(self) -> Iterator[tuple[layout.FlowKey, layout.Learnt]]:
        """Every flow, once; entries past their time are among them until they are swept."""
        for flow, learnt in self.table("flows").batched_items():
            if not learnt.client.is_ambiguous:  # those entries only lead to the ones of the flows that are meant
                yield flow, learnt

    def handshakes(self) -> Iterator[tuple[layout.Handshake, layout.Client]]:
        """Clients that a SYN told and whose connection is not established (yet)."""
        yield from self.table("handshakes").batched_items()

    def forget_handshakes(self, before_ns: int) -> int:
        """Take out what was learnt before a moment (of the programs' clock), and say how many that were."""
        table = self.table("handshakes")
        old = [handshake for handshake, client in self.handshakes() if client.learnt_ns < before_ns]
        return sum(table.remove(handshake) for handshake in old)


def _count(meaning: counters.Meaning, values: list[layout.Counter]) -> Count:
    latest = max(values, key=lambda value: value.last_ns, default=layout.Counter())
    source = latest.last_source.address if latest.last_ns else None
    return Count(meaning, tuple(value.count for value in values), latest.last_ns, source)


def _to_prefix(network: Network) -> layout.Prefix:
    bits = network.prefixlen + (_MAPPED_BITS if isinstance(network, IPv4Network) else 0)
    return layout.Prefix(bits, layout.PackedAddress.of(network.network_address))


def _to_network(prefix: layout.Prefix) -> Network:
    address = IPv6Address(bytes(prefix.address))
    if prefix.length >= _MAPPED_BITS and address.ipv4_mapped:
        return IPv4Network((address.ipv4_mapped, prefix.length - _MAPPED_BITS))
    return IPv6Network((to_mapped(address), prefix.length))
