"""Others on the machine: containers with networks and cgroups of their own, other controllers of sockets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.health import NO_SYN_FITS
from tests.apps.catalogue import app
from tests.apps.program import Program
from tests.apps.runner import Running, running
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import ANY, Datagrams
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import assert_restored as assert_datagrams_restored
from tests.e2e.datagrams import assert_untouched as assert_datagrams_untouched
from tests.e2e.puppet import puppet
from tests.e2e.traffic import IPV4, SERVER_PORT, Traffic, Way, assert_restored, assert_untouched
from tests.lab import addresses as a
from tests.lab.messages import Announce, Protocol, Service, Toa, Uoa, UoaMode, Where
from tests.lab.namespace import JOIN_CGROUP, Namespace
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")

GATEWAY, INSIDE = IPv4Address("172.18.0.1"), IPv4Address("172.18.0.2")


@pytest.fixture(scope="module")
def loaded(ipvsca: Ipvsca) -> Iterator[Ipvsca]:
    with ipvsca.loaded():
        yield ipvsca


@contextmanager
def behind_bridge(lab: Lab, address: IPv4Address) -> Iterator[Namespace]:
    """A network namespace behind a bridge, as container engines make them."""
    server = lab.server
    with ExitStack() as stack:
        inside = stack.enter_context(Namespace(lab.cgroup.parent))
        with server.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        _ip(server, "link add br0 type bridge")
        stack.callback(_ip, server, "link delete br0")
        _ip(server, f"link add veth0 type veth peer name eth0 netns {inside.pid}")
        stack.callback(_ip, server, "link delete veth0")  # it would go with the namespace, but later
        _ip(server, f"address add {GATEWAY}/24 dev br0", "link set veth0 master br0 up", "link set br0 up")
        _ip(inside, f"address add {address}/24 dev eth0", "link set lo up", "link set eth0 up")
        _ip(inside, f"route add default via {GATEWAY}")
        yield inside


@pytest.fixture
def container(lab: Lab) -> Iterator[Namespace]:
    """Behind a bridge; the services' ports are published."""
    if not shutil.which("iptables"):
        pytest.skip("needs iptables: apt install iptables")
    with (
        behind_bridge(lab, INSIDE) as inside,
        published(lab.server, "tcp", SERVER_PORT, SERVER_PORT),
        published(lab.server, "udp", UDP_SERVER_PORT, UDP_SERVER_PORT),
    ):
        yield inside


@contextmanager
def published(server: Namespace, protocol: str, port: int, inside: int) -> Iterator[None]:
    """A port of the real server leads to one of the container."""
    rule = f"PREROUTING -d {IPV4.rip} -p {protocol} --dport {port} -j DNAT --to-destination {INSIDE}:{inside}".split()
    server.run(["iptables", "-t", "nat", "-A", *rule])
    try:
        yield
    finally:
        server.run(["iptables", "-t", "nat", "-D", *rule])


def _ip(namespace: Namespace, *lines: str) -> None:
    namespace.run(["ip", "-batch", "-"], input="\n".join(lines))


@contextmanager
def serving(
    container: Namespace, cgroup: Path, application: Program, built: Path, *, port: int, listen: str = "0.0.0.0"
) -> Iterator[Running]:
    """The application in the container, in the cgroup whose services are restored."""
    launch = partial(container.popen, cgroup=cgroup)
    with running(application, listen, port, launch, shared=built) as process:
        yield process


def test_the_option_of_an_ack_reaches_a_published_port(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, container: Namespace
) -> None:
    traffic.direct(IPV4, Toa(Where.ACK))
    with serving(container, lab.cgroup, ACCEPT, traffic.built, port=SERVER_PORT), loaded.counted(tcp_restored_ack=4):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


def test_the_option_of_a_syn_does_not(lab: Lab, traffic: Traffic, loaded: Ipvsca, container: Namespace) -> None:
    """It was read under the address that the director knows. Nobody is shown wrong, and it is counted."""
    traffic.direct(IPV4, Toa(Where.SYN))
    with (
        serving(container, lab.cgroup, ACCEPT, traffic.built, port=SERVER_PORT),
        loaded.counted(syn_learnt=4, tcp_no_client=4),
    ):
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    # Status 3: the host end of the container came after the load, and no daemon follows.
    assert {"counter": "syn_learnt", "text": NO_SYN_FITS}.items() <= loaded.json("check", status=3)["hints"][-1].items()


def test_the_option_of_a_syn_is_read_where_its_address_is_the_last(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, container: Namespace
) -> None:
    """On the container's own interface, by a load in its network namespace."""
    load = ["nsenter", f"--net={container.path}", "--"]
    traffic.direct(IPV4, Toa(Where.SYN))
    with serving(container, lab.cgroup, ACCEPT, traffic.built, port=SERVER_PORT):
        lab.server.run([*load, *loaded.command("load")])
        with loaded.counted(syn_learnt=8, tcp_restored_syn=4):
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        container.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])


TOLD: list[dict[str, Any]] = [{"announce": Announce()}, {"uoa": Uoa(UoaMode.IPO)}, {"uoa": Uoa(UoaMode.OPP)}]
TOLD_IDS = ["announced", "ipo", "opp"]


@pytest.mark.parametrize("told", TOLD, ids=TOLD_IDS)
def test_datagrams_reach_a_published_port(
    lab: Lab, datagrams: Datagrams, loaded: Ipvsca, container: Namespace, told: dict[str, Any]
) -> None:
    """A flow is known by its ports, where the socket is bound to no address; and the answers find their way."""
    datagrams.direct(ANY, **told)
    with serving(container, lab.cgroup, RECVFROM, datagrams.built, port=UDP_SERVER_PORT) as process:
        exchanges = datagrams.ask(RECVFROM, ANY, process.directory, times=2)
        assert_datagrams_restored(exchanges, RECVFROM, ANY)


def test_datagrams_to_a_socket_bound_to_the_containers_address(
    lab: Lab, datagrams: Datagrams, loaded: Ipvsca, container: Namespace
) -> None:
    """Which is not the one that was announced: the director is shown."""
    datagrams.direct(ANY, Announce())
    with serving(container, lab.cgroup, RECVFROM, datagrams.built, port=UDP_SERVER_PORT, listen=str(INSIDE)) as process:
        exchanges = datagrams.ask(RECVFROM, ANY, process.directory)
        assert_datagrams_untouched(exchanges, RECVFROM, ANY)


LIP, LPORT = a.LIPS_V4[0], 7777
PORTS = UDP_SERVER_PORT + 1, UDP_SERVER_PORT + 2


def test_published_ports_that_cross(lab: Lab, datagrams: Datagrams, loaded: Ipvsca, container: Namespace) -> None:
    """A known limit: a socket is shown the clients of the service whose published port is the socket's own."""
    pool = {"local_addresses": (LIP,), "local_ports": (LPORT, LPORT), "announce": Announce(), "protocol": Protocol.UDP}
    services = [
        Service(Endpoint(ANY.vip, vport), (Endpoint(ANY.rip, port),), **pool)
        for vport, port in zip((53, 54), PORTS, strict=True)
    ]
    datagrams.director.serve(*services)
    with (
        published(lab.server, "udp", PORTS[0], PORTS[1]),
        published(lab.server, "udp", PORTS[1], PORTS[0]),
        puppet(lab, container) as server,
        datagrams.socket(ANY.sources[0], services[0].vip) as client,
        datagrams.socket(ANY.sources[1], services[1].vip) as of_other_service,
    ):
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {PORTS[1]}))")
        of_other_service.send(b"?")
        client.send(b"question")
        shown = of_other_service.getsockname()
        assert server("s.recvfrom(99)") == (b"question", shown)
        server(f"s.sendto(b'answer', {shown})")
        assert client.recv(99) == b"answer"


TO_CONTAINER = Way("container", IPV4.vip, IPv4Address("172.18.0.3"), "0.0.0.0")
"""Another address than that of published ports: what was translated from a port of LIP would keep this port taken."""


@pytest.fixture
def routed(lab: Lab) -> Iterator[Namespace]:
    """A container that the director knows by its own address."""
    route = f"{TO_CONTAINER.rip}/32 via {IPV4.rip}"
    with behind_bridge(lab, TO_CONTAINER.rip) as inside:
        _ip(lab.director, f"route add {route}")
        yield inside
        _ip(lab.director, f"route delete {route}")


@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_a_container_with_an_address_of_its_own(
    traffic: Traffic, loaded: Ipvsca, routed: Namespace, where: Where
) -> None:
    traffic.direct(TO_CONTAINER, Toa(where))
    with (
        serving(routed, traffic.lab.cgroup, ACCEPT, traffic.built, port=SERVER_PORT),
        loaded.counted(**{f"tcp_restored_{where}": 4}),
    ):
        assert_restored(traffic.ask(ACCEPT, TO_CONTAINER), ACCEPT, TO_CONTAINER)


@pytest.mark.parametrize("listen", ["0.0.0.0", str(TO_CONTAINER.rip)])
@pytest.mark.parametrize("told", TOLD, ids=TOLD_IDS)
def test_datagrams_to_a_container_with_an_address_of_its_own(
    datagrams: Datagrams, loaded: Ipvsca, routed: Namespace, told: dict[str, Any], listen: str
) -> None:
    _forget_flows(loaded)
    datagrams.direct(TO_CONTAINER, **told)
    serve = partial(serving, routed, datagrams.lab.cgroup, RECVFROM, datagrams.built, port=UDP_SERVER_PORT)
    with serve(listen=listen) as process:
        exchanges = datagrams.ask(RECVFROM, TO_CONTAINER, process.directory, times=2)
        assert_datagrams_restored(exchanges, RECVFROM, TO_CONTAINER)


def _forget_flows(ipvsca: Ipvsca) -> None:
    """Those of the tests before, which had the same lports."""
    with DataPlane(ipvsca.pin_path) as plane:
        for key in list(plane.table("flows").keys()):
            plane.table("flows").remove(key)


@contextmanager
def controlled(name: str, folder: Path) -> Iterator[Path]:
    """A group of a cgroup v1 controller, from which nothing but its mount is left behind."""
    done = subprocess.run(["mount", "-t", "cgroup", "-o", name, name, folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"needs: {name} as a controller of cgroup v1 (CONFIG_CGROUP_NET_CLASSID, _NET_PRIO)")
    group = folder / "service"
    try:
        group.mkdir()
        yield group
    finally:
        group.rmdir()
        subprocess.run(["umount", folder], check=True)


MARKS = {"net_cls": ("net_cls.classid", "0x10001"), "net_prio": ("net_prio.ifpriomap", "lo 5")}


@pytest.mark.parametrize("controller", MARKS)
def test_a_service_with_a_class_or_a_priority(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, tmp_path: Path, controller: str
) -> None:
    """Such a mark once took the place of the cgroup in each socket: before Linux 5.15."""
    setting, value = MARKS[controller]
    traffic.direct(IPV4, Toa(Where.ACK))
    with controlled(controller, tmp_path) as group:
        (group / setting).write_text(value)
        join = ["sh", "-c", JOIN_CGROUP, str(group)]
        with serving_by(join, lab.cgroup, lab, traffic):
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


def test_a_container_with_a_cgroup_namespace(lab: Lab, traffic: Traffic, loaded: Ipvsca) -> None:
    """Its cgroup is below ours, and it takes that for the root; a container in this container does the same."""
    outer = lab.cgroup / "container"
    inner = outer / "container"
    inner.mkdir(parents=True)
    try:
        enter = ["unshare", "--cgroup", "sh", "-c", JOIN_CGROUP, str(inner), "unshare", "--cgroup"]
        traffic.direct(IPV4, Toa(Where.BOTH))
        with serving_by(enter, outer, lab, traffic):
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    finally:
        inner.rmdir()
        outer.rmdir()


@pytest.fixture
def second_cgroup(lab: Lab) -> Iterator[Path]:
    cgroup = lab.cgroup.parent / "second"
    cgroup.mkdir()
    yield cgroup
    cgroup.rmdir()


@pytest.fixture
def second(lab: Lab, second_cgroup: Path, tmp_path: Path) -> Ipvsca:
    """Another instance, not loaded, for a cgroup of its own."""
    return Ipvsca(lab.server, lab.bpffs / "second", second_cgroup, tmp_path)


def test_two_instances_with_a_cgroup_each(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, second: Ipvsca, second_cgroup: Path
) -> None:
    """Each shows its own service's clients, on the same interface, and does so when the other one is gone."""
    traffic.direct(IPV4, Toa(Where.SYN))
    with second.loaded():
        for instance, group in ((loaded, lab.cgroup), (second, second_cgroup)):
            with traffic.serving(ACCEPT, IPV4, cgroup=group), instance.counted(syn_learnt=4, tcp_restored_syn=4):
                assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    with traffic.serving(ACCEPT, IPV4):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


def test_two_instances_and_opp(
    lab: Lab, datagrams: Datagrams, loaded: Ipvsca, second: Ipvsca, second_cgroup: Path
) -> None:
    """A known limit: the filter that is first, which came last, takes opp away; the other instance sees none."""
    serve = partial(serving, lab.server, application=RECVFROM, built=datagrams.built, port=UDP_SERVER_PORT)
    datagrams.direct(ANY, uoa=Uoa(UoaMode.OPP))
    _forget_flows(loaded)
    with second.loaded():
        with loaded.counted(opp_learnt=0), second.counted(opp_learnt=4), serve(second_cgroup) as process:
            assert_datagrams_restored(datagrams.ask(RECVFROM, ANY, process.directory), RECVFROM, ANY)
        with serve(lab.cgroup) as process:
            assert_datagrams_untouched(datagrams.ask(RECVFROM, ANY, process.directory), RECVFROM, ANY)


def test_ipvsca_in_a_container_is_told_whose_cgroup_it_has(ipvsca: Ipvsca) -> None:
    """Nothing is loaded with "auto" here: that would be the machine's own root."""
    ipvsca.configure(cgroup="auto")
    try:
        said = [
            ipvsca.namespace.run([*enter, *ipvsca.command("check")], check=False, cwd=REPOSITORY).stdout
            for enter in ([], ["unshare", "--cgroup"])
        ]
    finally:
        ipvsca.configure()
    assert ["cgroup v2 (of this container alone" in each for each in said] == [False, True]


@contextmanager
def serving_by(enter: list[str], cgroup: Path, lab: Lab, traffic: Traffic) -> Iterator[None]:
    """The application on the real server, started in a cgroup by a command that ends in an exec."""

    def launch(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return lab.server.popen([*enter, *argv], cgroup=cgroup, **options)

    with running(ACCEPT, IPV4.listen, SERVER_PORT, launch, shared=traffic.built):
        yield
