"""Can this machine restore addresses, is it doing so, what do the counters hint at? Facts for `check`; no printing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ipvsca import loader
from ipvsca.dataplane import Count, DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import bpf, machine, source
from ipvsca.kernel.interfaces import Interface, Interfaces, Mark, missing
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import CGROUP_PROGRAMS, INGRESS_PROGRAMS, LOOKUP, LOOKUP_VARIANTS, LookupVariant, wanted
from ipvsca.settings import SegmentsWithOption, Settings

_UOA = ("ipo", "opp")
_OPTION_SEEN = ("tcp_restored_ack", "tcp_restored_syn", "syn_learnt", "announcement_learnt", "ipo_learnt", "opp_learnt")
_AT_INGRESS = tuple(f"{refused}{what}_" for refused in ("", "refused_") for what in ("syn", "announcement", *_UOA))
"""What the names of counters begin with that count at tc ingress."""

_UNTRUSTED = "a director is missing in `trusted`, or somebody else sends options: they are not believed"
_MALFORMED = "a director, or something between, writes broken TCP headers"
_LENGTH = "somebody else's option uses a kind of tcpopt_addr; set tcpopt_addr to the kind your directors send"
_CLIENT = "a director sends an address that no client can have"
_MEMORY = "the kernel is short of memory"
_ALMOST = "a director sends announcements that are almost right: see docs/wire-formats.md"
_ON_THE_WAY = "something between changes announcements on their way from the director: look at the network"
_ALMOST_UOA = "a director sends datagrams with UOA that are almost right: see docs/wire-formats.md"
_DAMAGED = "datagrams are damaged on their way from the director: look at the network"
_ELSEWHERE = "datagrams with UOA come to another host's hardware address: name the bridge in interfaces"
_HINTS = {
    "refused_ack_untrusted": _UNTRUSTED,
    "refused_syn_untrusted": _UNTRUSTED,
    "refused_ack_malformed": _MALFORMED,
    "refused_syn_malformed": _MALFORMED,
    "refused_ack_conflict": "a director passes on options that clients write, and writes its own into the other segment"
    " (SYN or ACK) only: have it strip what clients write",
    "refused_ack_length": _LENGTH,
    "refused_syn_length": _LENGTH,
    "refused_ack_client": _CLIENT,
    "refused_syn_client": _CLIENT,
    "refused_ack_memory": _MEMORY,
    "refused_syn_memory": _MEMORY,
    "refused_syn_fragment": "SYNs arrive in fragments, which are not looked at: mind the MTU towards the server",
    "getpeername_unshowable": "clients have IPv6, but the application listens on an IPv4 socket: let it listen on [::]",
    "recvmsg_ambiguous": "a director uses a LIP:lport towards several addresses of this host: bind a socket to each",
    "flows_evicted": "more flows at once than max_flows: raise it",
    "refused_announcement_untrusted": _UNTRUSTED,
    "refused_announcement_kind": "a director announces with an option kind that is not in tcpopt_addr: add it",
    "refused_announcement_host": "announcements come to another host's hardware address: name the bridge in interfaces",
    "refused_announcement_malformed": _ALMOST,
    "refused_announcement_length": _ALMOST,
    "refused_announcement_checksum": _ON_THE_WAY,
    "refused_announcement_fragment": _ON_THE_WAY,
    "refused_syn_conflict": "SYNs are damaged on their way from the director: look at the network",
    "refused_announcement_client": _CLIENT,
    "refused_announcement_memory": _MEMORY,
    "recvmsg_unshowable": "clients have IPv6, servers IPv4: recvfrom keeps the LIP, or no answer could be sent",
    **{f"refused_{form}_untrusted": _UNTRUSTED for form in _UOA},
    **{f"refused_{form}_host": _ELSEWHERE for form in _UOA},
    **{f"refused_{form}_malformed": _ALMOST_UOA for form in _UOA},
    **{f"refused_{form}_length": _ALMOST_UOA for form in _UOA},
    **{f"refused_{form}_checksum": _DAMAGED for form in _UOA},
    **{f"refused_{form}_client": _CLIENT for form in _UOA},
    **{f"refused_{form}_memory": _MEMORY for form in _UOA},
    "refused_opp_fragment": "opp comes in fragments, which stay as they are: raise the MTU towards the server",
    "refused_opp_room": "the kernel does not let opp be taken away inside VLAN tags: see docs/wire-formats.md",
    "syn_expired": "handshakes take longer than tcp_timeout: raise it",
}
"""What an operator should think of where a counter is not 0."""

NO_OPTION = (
    "connections arrive, none with an option: do the directors send one, of a kind in tcpopt_addr, in a segment that"
    " tcpopt_in names, and do connections come through them at all?"
)

ONLY_ACK = (
    'every client came in the ACK: where all your directors do that, idle ones too, set tcpopt_in = "ack"; and where no'
    " UDP is restored, interfaces = [] in the file spares each packet the way through tc"
)
ENOUGH = 10_000
"""So many clients tell where directors put their option."""


NO_SYN_FITS = (
    "SYNs tell clients, and no connection fits them: where this host redirects connections (destination NAT, published"
    " ports of containers), let the directors write the option into the ACK, or load in the container's network too"
)


@dataclass(frozen=True)
class Finding:
    """One thing that has to be so. Where it is not, `remedy` says what to do."""

    what: str
    remedy: str | None = None
    program: str | None = None
    """The name of the program, where it is about one on the cgroup."""
    interface: str | None = None
    """The name of the interface, where it is about one."""

    @property
    def ok(self) -> bool:
        return self.remedy is None


@dataclass(frozen=True)
class Hint:
    """What a counter that is not 0 points at."""

    count: Count
    text: str


@dataclass(frozen=True)
class Source:
    """Digests (SHA-256, hexadecimal) of BPF source, as ipvsca.kernel.source computes them."""

    here: str
    """Of what this ipvsca would load with these settings."""
    loaded: str | None
    """Of what is loaded, as the loader noted it; None where nothing is."""


@dataclass(frozen=True)
class Health:
    requirements: tuple[Finding, ...]
    attachments: tuple[Finding, ...]
    hints: tuple[Hint, ...]
    last_option: Count | None
    """The counter that last saw an option which was believed."""
    lookup_variant: LookupVariant | None = None
    """How lookup calls are answered; None where they are not."""
    source: Source | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the programs are, and can be read: only then is anything known of traffic."""
        return self.attachments[0].ok

    @property
    def can_restore(self) -> bool:
        return all(finding.ok for finding in self.requirements)

    @property
    def is_restoring(self) -> bool:
        return all(finding.ok for finding in self.attachments)


def examine(settings: Settings) -> Health:
    """Look at everything; changes nothing and raises nothing that a user could mend."""
    counts = _counts(settings.pin_path)
    seen = [counts[name] for name in _OPTION_SEEN if name in counts and counts[name].last_ns]
    return Health(
        tuple(_requirements(settings)),
        attachments(settings),
        tuple(_hints(counts, settings)),
        max(seen, key=lambda count: count.last_ns, default=None),
        _lookup_variant(settings.pin_path),
        Source(source.digest(wanted(settings)), _loaded_digest(settings.pin_path)),
    )


def _loaded_digest(pin_path: Path) -> str | None:
    try:
        with DataPlane(pin_path) as plane:
            return plane.build().digest.decode() or None
    except (Problem, OSError):
        return None


def _counts(pin_path: Path) -> Mapping[str, Count]:
    try:
        with DataPlane(pin_path) as plane:
            return plane.counts()
    except (Problem, OSError):
        return {}


def _lookup_variant(pin_path: Path) -> LookupVariant | None:
    try:
        with DataPlane(pin_path) as plane:
            name = plane.build().lookup.decode()
    except (Problem, OSError):
        return None
    return next((variant for variant in LOOKUP_VARIANTS if variant.name == name), None)


def _requirements(settings: Settings) -> Iterator[Finding]:
    for what, ask in machine.requirements(settings.pin_path, settings.cgroup):
        try:
            ask()
            yield Finding(what)
        except Problem as problem:
            yield Finding(what, str(problem))


def attachments(settings: Settings) -> tuple[Finding, ...]:
    """Whether programs are loaded, then each place where one has to be attached; what `examine` finds of that."""
    return tuple(_attachments(settings))


def _attachments(settings: Settings) -> Iterator[Finding]:
    loaded = _loaded(settings)
    yield loaded
    if not loaded.ok:
        return
    try:
        cgroup = machine.cgroup_path(settings.cgroup)
        yield from _cgroup_attachments(Pins.at(settings.pin_path), cgroup, settings)
        yield from _interface_attachments(Pins.at(settings.pin_path), settings)
    except (Problem, OSError) as problem:  # the latter where something goes away while we look
        yield Finding("the cgroup and interfaces of the settings", str(problem))


def _loaded(settings: Settings) -> Finding:
    pin_path = settings.pin_path
    try:
        with DataPlane(pin_path) as plane:
            build = plane.whole_build()
    except (Problem, OSError) as problem:
        return Finding("programs are loaded", str(problem))
    if missing := [name for name in KEYS_AND_VALUES if not (Pins.at(pin_path).maps / name).exists()]:
        return Finding("programs are loaded", f"{missing[0]} in {pin_path}/maps is gone: `ipvsca unload`, then load")
    digest = build.digest.decode()[: source.SHOWN_OF_DIGEST]
    what = f"programs of version {build.version.decode()} are loaded, source {digest}"
    others = " (not those of this ipvsca and its configuration: `ipvsca load` replaces them)"
    return Finding(what if loader.is_current(settings) else what + others)


def _cgroup_attachments(pins: Pins, cgroup: Path, settings: Settings) -> Iterator[Finding]:
    for program in CGROUP_PROGRAMS:
        if not program.is_wanted(settings):
            continue
        what = f"{program.name} on {cgroup}: {program.does}"
        if program is LOOKUP and (variant := _lookup_variant(settings.pin_path)) and variant.lacks:
            what = f"{what} ({variant.lacks})"
        remedy = None if _is_linked(pins.link(program), cgroup) else "not attached there: `ipvsca load`"
        yield Finding(what, remedy, program=program.name)


def _is_linked(pin: Path, cgroup: Path) -> bool:
    if not pin.exists():
        return False
    with bpf.opened(pin) as link:
        return int(bpf.link_info(link).cgroup_id) == cgroup.stat().st_ino


def _interface_attachments(pins: Pins, settings: Settings) -> Iterator[Finding]:
    with Interfaces() as interfaces:
        for interface in interfaces.select(settings.interfaces):
            yield _interface_attachment(pins, interfaces, interface)
    for name in missing(settings.interfaces):
        yield Finding(f"tc ingress of {name}", "there is no such interface (yet)", interface=name)


def _interface_attachment(pins: Pins, interfaces: Interfaces, interface: Interface) -> Finding:
    what = f"tc ingress of {interface.name}"
    in_order = interfaces.filters(interface.index)
    marks = [Mark.parse(each.name) for each in in_order]
    ours = [at for at, mark in enumerate(marks) if mark and mark.pin_path == pins.root and _is_pinned(mark, pins)]
    if not ours:
        return Finding(what, "not attached: `ipvsca load`", interface=interface.name)
    before = [other.name or other.kind for other, mark in zip(in_order, marks[: ours[0]], strict=False) if mark is None]
    behind = f" (behind other filters, which may keep SYNs from it: {', '.join(before)})" if before else ""
    return Finding(f"{what}{behind}", interface=interface.name)


def _is_pinned(mark: Mark, pins: Pins) -> bool:
    """Whether a filter's program is one of those that are pinned: another one is of an interrupted load."""
    for program in INGRESS_PROGRAMS:
        if pins.program(program).exists():
            with bpf.opened(pins.program(program)) as fd:
                if bpf.program_id(fd) == mark.program_id:
                    return True
    return False


def _hints(counts: Mapping[str, Count], settings: Settings) -> Iterator[Hint]:
    for name, text in _HINTS.items():
        if name in counts and counts[name].total:
            yield Hint(counts[name], text)
    without = counts.get("tcp_no_client")
    told = (count.total for name, count in counts.items() if name in _OPTION_SEEN or count.meaning.is_refusal)
    if without and without.total and not any(told) and settings.tcpopt_in is not SegmentsWithOption.NONE:
        yield Hint(without, NO_OPTION)
    in_ack = counts.get("tcp_restored_ack")
    at_ingress = (count.total for name, count in counts.items() if name.startswith(_AT_INGRESS))
    reads_syns = settings.tcpopt_in.syn and settings.interfaces
    if in_ack and in_ack.total >= ENOUGH and reads_syns and not any(at_ingress):
        yield Hint(in_ack, ONLY_ACK)
    if without and without.total and counts["syn_learnt"].total and not counts["tcp_restored_syn"].total:
        yield Hint(counts["syn_learnt"], NO_SYN_FITS)
