"""What is interrupted, in the middle of traffic, and what has to be so during it and after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ipvsca.address import Address, Endpoint
from ipvsca.loader import IN_FORCE
from tests.apps.catalogue import app
from tests.e2e.traffic import (
    IPV4,
    SERVICE_PORT,
    Tally,
    Traffic,
    assert_restored,
    continuously,
    own_address,
)
from tests.faults import calls
from tests.faults.calls import Call
from tests.kernel_state import KernelState, settles
from tests.lab import addresses
from tests.lab.messages import Toa, Where
from tests.lab.namespace import Namespace
from tests.rig import REPOSITORY, Ipvsca, other_version

ACCEPT = app("c-accept")
REFUSALS = {"sendto": "ENOBUFS"}
"""What a call is refused with; ENOMEM where nothing else is said."""

RELOAD = """
import sys
from pathlib import Path
from ipvsca import loader, settings
from ipvsca.cli.status import status_of
def reload():
    wanted = settings.read_file(Path(sys.argv[1]))
    loader.reload(wanted, wanted.pin_path)
sys.exit(status_of(reload))
"""
"""What the daemon does at SIGHUP, in a process that does nothing else."""


class Scenario(Enum):
    FIRST_LOAD = "first load"
    REPLACEMENT = "load of another version"
    OTHER_SETTINGS = "load of other settings"
    RELOAD = "reload"
    UNLOAD = "unload"

    @property
    def is_restoring_all_along(self) -> bool:
        return self not in (Scenario.FIRST_LOAD, Scenario.UNLOAD)

    def settings(self, cgroup: Path) -> dict[str, object]:
        """What the file says."""
        if self in (Scenario.OTHER_SETTINGS, Scenario.RELOAD):
            return {"cgroup": str(cgroup), "tcp_timeout": 20}
        return {}

    @property
    def settings_before(self) -> dict[str, object]:
        """What it said when what is loaded was loaded."""
        return {"lookup_calls": True} if self is Scenario.OTHER_SETTINGS else {}


@dataclass(frozen=True)
class Stage:
    """A server with traffic on it, on which nothing is loaded."""

    traffic: Traffic
    ipvsca: Ipvsca
    cgroup: Path
    """The service's, below that of `ipvsca`."""
    other_version: Path
    """A checkout with other programs."""
    folder: Path

    @classmethod
    def set(cls, traffic: Traffic, ipvsca: Ipvsca, folder: Path) -> Stage:
        traffic.direct(IPV4, Toa(Where.SYN))
        cgroup = traffic.lab.cgroup / "service"
        cgroup.mkdir()
        return cls(traffic, ipvsca, cgroup, other_version(folder / "other"), folder)

    def picture(self) -> tuple[KernelState, ...]:
        lab = self.traffic.lab
        return tuple(KernelState.of(lab.server, cgroup, lab.bpffs) for cgroup in (lab.cgroup, self.cgroup))

    def calls(self, scenario: Scenario) -> list[Call]:
        """Those that change something where nothing goes wrong."""
        self._prepare(scenario)
        ipvsca = self.ipvsca
        found = calls.changing(ipvsca.namespace, self._command(scenario), ipvsca.pin_path, self._record)
        self._unload()
        return found

    def kill(self, scenario: Scenario, call: Call) -> None:
        """Killed there, nobody is shown a wrong address; what is left the next load finishes, or the next unload."""
        before = self.picture()
        self._prepare(scenario)
        with self._watched(scenario):
            killed = calls.killed_before(*self._interrupted(scenario, call), self._record)
            assert killed.returncode == calls.KILLED, killed.stderr
            if scenario.is_restoring_all_along or call.number % 2:
                self._heal()
        self._unload()
        settles(self.picture, before)

    def refuse(self, scenario: Scenario, call: Call) -> str:
        """Refused there, a load changes nothing, or says that it is in force; an unload is finished by the next one.

        Gives what was said.
        """
        start = self.picture()
        self._prepare(scenario)
        before = self.picture()
        with self._watched(scenario):
            done = calls.refused(*self._interrupted(scenario, call), REFUSALS.get(call.name, "ENOMEM"), self._record)
            said = done.stderr.strip()
            assert done.returncode in (0, 1), said
            if done.returncode:
                assert said.startswith("ipvsca: "), said
                assert len(said.splitlines()) == 1, said
            is_done = not done.returncode or IN_FORCE in said
            if scenario is Scenario.UNLOAD:
                if is_done and call.name != "rmdir":  # folders may stay: somebody else's pins could be in them
                    settles(self.picture, start)
            elif is_done:
                assert self.ipvsca.json("check")["is_restoring"], "it is not in force"
            else:
                settles(self.picture, before)
        self._unload()
        settles(self.picture, start)
        return f"{done.returncode} {said}"

    @property
    def _record(self) -> Path:
        return self.folder / "record"

    def _interrupted(self, scenario: Scenario, call: Call) -> tuple[Namespace, list[str], Call]:
        return self.ipvsca.namespace, self._command(scenario), call

    def _command(self, scenario: Scenario) -> list[str]:
        if scenario is Scenario.RELOAD:
            return [sys.executable, "-c", RELOAD, str(self.ipvsca.config)]
        return self.ipvsca.command("unload" if scenario is Scenario.UNLOAD else "load")

    def _prepare(self, scenario: Scenario) -> None:
        if scenario is not Scenario.FIRST_LOAD:
            version = self.other_version if scenario is Scenario.REPLACEMENT else REPOSITORY
            self.ipvsca.configure(**scenario.settings_before)
            self.ipvsca.namespace.run(self.ipvsca.command("load"), cwd=version)
        self.ipvsca.configure(**scenario.settings(self.cgroup))

    def _unload(self) -> None:
        self.ipvsca.run("unload")
        self.ipvsca.configure()

    def _heal(self) -> None:
        self.ipvsca.run("load")
        assert self.ipvsca.json("check")["is_restoring"]
        assert_restored(self.traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)

    @contextmanager
    def _watched(self, scenario: Scenario) -> Iterator[None]:
        """Clients come all the time: seen as themselves where programs are loaded all the time, otherwise not wrong."""
        traffic = self.traffic
        asking = traffic.continuous(ACCEPT, IPV4) if scenario.is_restoring_all_along else self._not_wrong()
        with traffic.serving(ACCEPT, IPV4, cgroup=self.cgroup), asking as tally:
            tally.wait_for(4)
            yield
            tally.wait_for(4)

    @contextmanager
    def _not_wrong(self) -> Iterator[Tally]:
        """Each call shows the client or the director."""

        def ask_once(source: Address, tally: Tally) -> None:
            with self.traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), source) as client:
                own = own_address(client)
                seen = ACCEPT.ask(client)
                shown = (seen.accept, seen.getpeername)
                wrong = [
                    each for each in shown if each != own and (each is None or each.address not in addresses.LIPS_V4)
                ]
                tally.add(own, [], wrong)

        with continuously(ask_once, IPV4.sources[:2]) as tally:
            yield tally
