"""Load, replace and unload the data plane. Each change of the kernel's state has its undo beside it: all or nothing.

A process that ends in the middle of it leaves what the next load finishes or the next unload takes off.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ipvsca import __version__
from ipvsca.dataplane import DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import bpf, layout, machine, source
from ipvsca.kernel.interfaces import Interface, Interfaces, Vanished, missing
from ipvsca.kernel.maps import KEYS_AND_VALUES, ONLY
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import CGROUP_PROGRAMS, INGRESS_PROGRAMS, LOOKUP, PROGRAMS, Program, wanted
from ipvsca.layouts import layouts
from ipvsca.settings import MEANINGS, Settings, as_text

Programs = Mapping[Program, int]
"""Open descriptors of loaded programs."""

IN_FORCE = "the settings are in force, but what was there before is not all gone"
"""How the one complaint begins that comes when a load cannot be undone any more."""

_ENDING = {signal.SIGTERM, signal.SIGINT}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    compiled: bool
    """False where the programs were already loaded from the same source."""
    changes: tuple[str, ...]
    """What was set, attached or taken off, in words."""
    missing: tuple[str, ...]
    """The names of interfaces that the settings name and that are not there."""


@dataclass(frozen=True)
class Reloaded:
    """What a reload did."""

    changes: tuple[str, ...]
    waiting: tuple[str, ...]
    """The settings that differ from what is in force and take more than that."""


class Steps:
    """Steps of a change. Where one fails, those before it are undone, the last one first."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._finish = ExitStack()
        self._held = ExitStack()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with self._held, _not_told_to_end():  # what comes now may need a descriptor
            if failure:
                self._undo.close()
            else:
                self._end()

    def _end(self) -> None:
        try:
            self._finish.close()
        except OSError as error:
            raise Problem(f"{IN_FORCE}: {error.filename}: {error.strerror}: run `ipvsca load` again") from error

    def on_failure(self, undo: Callable[..., object], *arguments: Any) -> None:
        """How to undo what comes next."""
        self._undo.callback(undo, *arguments)

    def on_success(self, finish: Callable[..., object], *arguments: Any) -> None:
        """What can be done only once no step fails any more, because nothing undoes it."""
        self._finish.callback(finish, *arguments)

    def hold(self, fd: int) -> int:
        """Keep a descriptor open until the end."""
        self._held.callback(os.close, fd)
        return fd


@contextmanager
def _not_told_to_end() -> Iterator[None]:
    """Signals to end wait until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def load(settings: Settings) -> Loaded:
    """Make the kernel's state what the settings say.

    Raises Problem, after which everything is as it was before, unless it says that they are in force.
    """
    machine.require(settings.pin_path, settings.cgroup)
    cgroup = machine.cgroup_path(settings.cgroup)
    pins = Pins.at(settings.pin_path)
    with pins.locked(), Interfaces() as interfaces, DataPlane(pins.root) as plane, Steps() as steps:
        selected = interfaces.select(settings.interfaces)
        if not pins.root.exists():
            steps.on_failure(pins.remove)
        pins.make_folders()
        _refuse_other_layouts(plane, settings)
        compile_ = not _is_current(pins, settings)
        with _programs(pins, compile_, settings, steps) as (programs, variant):
            _note_layouts(plane, steps)
            changes = [
                *_apply(plane, settings, steps),
                *_attach_to_cgroup(pins, programs, cgroup, steps),
                *_attach_to_interfaces(pins, programs, interfaces, selected, steps),
            ]
            if compile_:
                _commit(pins, programs, variant, plane, steps)
        return Loaded(compile_, tuple(changes), tuple(missing(settings.interfaces)))


def reload(settings: Settings, pin_path: Path) -> Reloaded:
    """Put settings into force with the programs that are loaded at `pin_path`, as far as these allow.

    Raises Problem, after which everything is as it was before.
    """
    pins = Pins.at(pin_path)
    cgroup = machine.cgroup_path(settings.cgroup)
    with pins.locked(), Interfaces() as interfaces, DataPlane(pins.root) as plane, Steps() as steps:
        plane.whole_build()
        kept = replace(
            settings,
            pin_path=pin_path,
            max_flows=plane.settings().max_flows,
            lookup_calls=_lookup_calls_in_force(pins),
        )
        selected = interfaces.select(kept.interfaces)
        programs = _pinned(pins, wanted(kept), steps)
        changes = [
            *_apply(plane, kept, steps),
            *_attach_to_cgroup(pins, programs, cgroup, steps),
            *_attach_to_interfaces(pins, programs, interfaces, selected, steps),
        ]
    return Reloaded(tuple(changes), tuple(key for key in MEANINGS if getattr(settings, key) != getattr(kept, key)))


def follow(settings: Settings, indices: Collection[int] | None = None) -> list[str]:
    """Attach to interfaces that came, and let go of those that the settings do not mean any more.

    Looks at the interfaces with these indices; at all of them for None. Says what was done; what cannot be done with
    one of them is logged, and does not keep the others from it. Raises Problem where nothing is loaded.
    """
    pins = Pins.at(settings.pin_path)
    changes = []
    with pins.locked(), Interfaces() as interfaces, Steps() as steps:
        programs = _pinned(pins, INGRESS_PROGRAMS, steps)
        for interface in interfaces.all() if indices is None else interfaces.some(indices):
            try:
                program = interface.require_program() if interface.is_meant(settings.interfaces) else None
                if _attach_to_interface(pins, programs, interfaces, interface, program, steps=steps):
                    changes.append(_said(interface, program))
            except (Problem, OSError) as problem:
                _log.warning("%s", problem)
    return changes


def unload(pin_path: Path) -> list[str]:
    """Take everything off, whatever an interrupted load left included. Says what was taken off. Raises Problem."""
    machine.require_privilege()
    machine.require_bpffs(pin_path)
    pins = Pins.at(pin_path)
    changes = []
    with pins.locked(), Interfaces() as interfaces:
        for interface in interfaces.all():
            if interfaces.detach(interface, pins.root):
                changes.append(f"tc ingress of {interface.name}")
        for program in reversed(CGROUP_PROGRAMS):
            ended = [_end_link(pin) for pin in (pins.link(program), bpf.beside(pins.link(program)))]
            if any(ended):
                changes.append(f"{program.does} ({program.name})")
        pins.remove()
    return changes


def _end_link(pin: Path) -> bool:
    """Take off what is attached by this link. False where there is none."""
    if not pin.exists():
        return False
    with bpf.opened(pin) as link:
        _detach(link)  # as long as it is pinned: who is killed now can find it again
    pin.unlink()
    return True


def _detach(link: int) -> None:
    """Where the kernel refuses it, it ends the link itself, some milliseconds after nobody holds it any more."""
    with suppress(OSError):
        bpf.link_detach(link)


def in_force(settings: Settings) -> Settings:
    """What is in force where `settings` has it pinned; in its own words, where it means the same. Raises Problem."""
    pins = Pins.at(settings.pin_path)
    with DataPlane(pins.root) as plane, Interfaces() as interfaces:
        return replace(
            plane.settings(),
            interfaces=_interfaces_in_force(pins, interfaces, settings.interfaces),
            cgroup=_cgroup_in_force(pins, settings.cgroup),
            lookup_calls=_lookup_calls_in_force(pins),
            pin_path=settings.pin_path,
            metrics=settings.metrics,  # the daemon's; nothing pinned tells of them
            metrics_tls=settings.metrics_tls,
            metrics_login=settings.metrics_login,
        )


def _interfaces_in_force(pins: Pins, interfaces: Interfaces, setting: str | tuple[str, ...]) -> str | tuple[str, ...]:
    there = interfaces.all()
    attached = [interface for interface in there if interfaces.ours(interface.index, pins.root)]
    is_as_set = attached == [interface for interface in there if interface.is_meant(setting)] and not missing(setting)
    return setting if is_as_set else tuple(interface.name for interface in attached)


def _cgroup_in_force(pins: Pins, setting: str) -> str:
    links = [pins.link(program) for program in CGROUP_PROGRAMS if pins.link(program).exists()]
    if not links:
        return "none"
    with bpf.opened(links[0]) as link:
        number = int(bpf.link_info(link).cgroup_id)
    return setting if machine.is_cgroup(setting, number) else machine.cgroup_by_id(number) or "one that is gone"


def _lookup_calls_in_force(pins: Pins) -> bool:
    return pins.link(LOOKUP).exists()


def is_current(settings: Settings) -> bool:
    """Whether the pinned programs are those that this ipvsca makes for these settings."""
    return _is_current(Pins.at(settings.pin_path), settings)


def _remove_pin(pin: Path) -> None:
    pin.unlink(missing_ok=True)


def _is_current(pins: Pins, settings: Settings) -> bool:
    programs = wanted(settings)
    pinned = [pins.program(program) for program in programs] + [pins.maps / name for name in KEYS_AND_VALUES]
    if not all(pin.exists() for pin in pinned):
        return False
    try:
        with DataPlane(pins.root) as plane:
            return bool(plane.build().digest.decode() == source.digest(programs))
    except Problem:
        return False


@contextmanager
def _programs(pins: Pins, compile_: bool, settings: Settings, steps: Steps) -> Iterator[tuple[Programs, str]]:
    """The programs to attach: those that are pinned, or where the source has changed new ones on the same maps.

    With the name of the new LOOKUP's variant; empty where it is not among them.
    """
    if not compile_:
        yield _pinned(pins, wanted(settings), steps), ""
        return
    from ipvsca.kernel import compiler  # bcc comes with 100 MB of LLVM: only where something is to compile

    for name in KEYS_AND_VALUES:
        if not (pins.maps / name).exists():
            steps.on_failure(_remove_pin, pins.maps / name)
    with compiler.loaded_programs(pins.maps, settings.max_flows, wanted(settings)) as (programs, variant):
        yield programs, variant.name if LOOKUP in programs else ""


def _pinned(pins: Pins, programs: Iterable[Program], steps: Steps) -> Programs:
    try:
        return {program: steps.hold(bpf.get(pins.program(program))) for program in programs}
    except FileNotFoundError as error:
        if not pins.root.exists():
            raise Problem(f"nothing is loaded at {pins.root}: run `ipvsca load`") from error
        raise Problem(f"{error.filename} is gone, and with it what is loaded: run `ipvsca load`") from error


def _refuse_other_layouts(plane: DataPlane, settings: Settings) -> None:
    """Maps that are pinned there are used again: they have to be what the programs expect."""
    differing = plane.mismatches(settings.max_flows)
    if differing:
        raise Problem(
            f"{settings.pin_path} holds maps of another version or max_flows ({'; '.join(differing)}): "
            "`ipvsca unload`, then load again; clients known until then are lost"
        )


def _note_layouts(plane: DataPlane, steps: Steps) -> None:
    """For other versions; before any program can write to the maps."""
    table = plane.table("layouts")
    ours = {bytes(layout.Placed(what.encode())): digits for what, digits in layouts().items()}
    there = {bytes(name) for name, _ in table.batched_items()}
    new = {name: digits for name, digits in ours.items() if name not in there}
    for name in new:
        steps.on_failure(table.remove, layout.Placed.from_buffer_copy(name))
    if new:
        table.put_all(new)


def _apply(plane: DataPlane, settings: Settings, steps: Steps) -> Iterator[str]:
    before = plane.settings()
    steps.on_failure(plane.apply, before)
    plane.apply(settings)
    after = plane.settings()
    is_first = not before.tcpopt_addr
    for key in (key for key, meaning in MEANINGS.items() if meaning.live and not is_first):
        if getattr(after, key) != getattr(before, key):
            yield f"{key}={as_text(getattr(after, key))}"


def _attach_to_cgroup(pins: Pins, programs: Programs, cgroup: Path, steps: Steps) -> Iterator[str]:
    folder = steps.hold(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY))
    for program in CGROUP_PROGRAMS:
        _end_link(bpf.beside(pins.link(program)))  # of a loader that was killed
        if program not in programs:
            yield from _take_off(pins.link(program), program, steps)
            continue
        try:
            is_new = _attach_program(pins.link(program), program, programs[program], folder, steps)
        except OSError as error:
            raise Problem(
                f"{program.name} ({program.does}) cannot be attached to {cgroup}: {_reason(error)}"
            ) from error
        if is_new:
            yield f"{program.name} on {cgroup}: {program.does}"


def _take_off(pin: Path, program: Program, steps: Steps) -> Iterator[str]:
    """Take off a program that is not wanted any more, once no step fails any more."""
    if pin.exists():
        steps.on_success(_end_link, pin)
        yield f"{program.name} taken off: {program.does}"


def _unpin(pin: Path, steps: Steps) -> None:
    steps.on_failure(bpf.pin, steps.hold(bpf.get(pin)), pin)
    pin.unlink()


def _reason(error: OSError) -> str:
    """Why an attachment was refused, and what to do."""
    if error.errno != errno.EPERM:
        return f"{error.strerror}; `bpftool cgroup tree` shows what is attached there and above"
    return (
        "another program holds this hook alone, there or in a cgroup above: `bpftool cgroup tree` shows it, without the"
        " word `multi`; detach it, or set another cgroup"
    )


def _attach_program(pin: Path, program: Program, fd: int, cgroup: int, steps: Steps) -> bool:
    """False where this very program is attached there already."""
    assert program.attach is not None
    link = steps.hold(bpf.get(pin)) if pin.exists() else None
    info = bpf.link_info(link) if link is not None else bpf.LinkInfo()
    if link is not None and info.cgroup_id == os.fstat(cgroup).st_ino:  # a cgroup's id is its folder's inode number
        if info.program_id == bpf.program_id(fd):
            return False
        steps.on_failure(bpf.link_update, link, steps.hold(bpf.program_by_id(info.program_id)))
        bpf.link_update(link, fd)
        return True
    new = steps.hold(bpf.link_create(fd, cgroup, program.attach))
    steps.on_failure(bpf.link_detach, new)
    if link is None:
        steps.on_failure(_remove_pin, pin)
    else:
        steps.on_failure(bpf.pin, link, pin)
        steps.on_success(_detach, link)
    bpf.pin(new, pin)
    return True


def _attach_to_interfaces(
    pins: Pins, programs: Programs, interfaces: Interfaces, selected: list[Interface], steps: Steps
) -> Iterator[str]:
    for interface in interfaces.all():
        program = interface.program if interface in selected else None
        if _attach_to_interface(pins, programs, interfaces, interface, program, steps=steps):
            yield _said(interface, program)


def _attach_to_interface(
    pins: Pins,
    programs: Programs,
    interfaces: Interfaces,
    interface: Interface,
    program: Program | None,
    *,
    steps: Steps,
) -> bool:
    """Have this program, or none, at its ingress. False where it is so already, or the interface went away."""
    found = interfaces.ours(interface.index, pins.root)
    before = found[1].program_id if found else None
    fd = None if program is None else programs[program]
    after = None if fd is None else bpf.program_id(fd)
    if before == after:
        return False
    old = None if before is None else _opened(before, programs, steps)
    steps.on_failure(_set_filter, interfaces, interface, old, pins.root)
    try:
        _set_filter(interfaces, interface, fd, pins.root)
    except Vanished:
        return False
    return True


def _said(interface: Interface, program: Program | None) -> str:
    return f"tc ingress of {interface.name}: {'taken off' if program is None else program.does}"


def _opened(number: int, programs: Programs, steps: Steps) -> int:
    """A program by the kernel's id. One that is at hand takes no privilege; another takes CAP_SYS_ADMIN."""
    at_hand = {bpf.program_id(fd): fd for fd in programs.values()}
    return at_hand[number] if number in at_hand else steps.hold(bpf.program_by_id(number))


def _set_filter(interfaces: Interfaces, interface: Interface, program: int | None, root: Path) -> None:
    if program is None:
        interfaces.detach(interface, root)
    else:
        interfaces.attach(interface, program, bpf.program_id(program), root)


def _commit(pins: Pins, programs: Programs, variant: str, plane: DataPlane, steps: Steps) -> None:
    """Pin the new programs, for interfaces that come later, and last of all say that this load is whole."""
    build = layout.Build(source.digest(programs).encode(), __version__.encode(), variant.encode(), time.time_ns())
    steps.on_failure(plane.table("build").put, ONLY, plane.build())
    plane.table("build").put(ONLY, layout.Build())  # until then the pins are neither this version's nor the other's
    for program, fd in programs.items():
        pin = pins.program(program)
        if pin.exists():
            steps.on_failure(bpf.pin, steps.hold(bpf.get(pin)), pin)
        else:
            steps.on_failure(_remove_pin, pin)
        bpf.pin(fd, pin)
    for program in PROGRAMS:
        if program not in programs and pins.program(program).exists():
            _unpin(pins.program(program), steps)
    plane.table("build").put(ONLY, build)
