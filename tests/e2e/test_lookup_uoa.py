"""DPVS's lookup call names the client that UOA told, whatever recvfrom gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ipvsca.address import Endpoint
from tests.apps.dpvs_lookup import UDP_LOOKUP, Lookup, SeenByLookup, ask_uoa
from tests.e2e.datagrams import BY_UOA, BY_UOA_OF_TWO_FAMILIES, SERVICE_PORT, Datagrams
from tests.e2e.getsockopt import UOA_SIZE
from tests.e2e.traffic import Way, own_address
from tests.lab.messages import Uoa, UoaMode
from tests.rig import Ipvsca

every_way = pytest.mark.parametrize(("mode", "way"), BY_UOA, ids=str)
of_two_families = pytest.mark.parametrize(("mode", "way"), BY_UOA_OF_TWO_FAMILIES, ids=str)


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded(lookup_calls=True):
        yield


def looked_up(datagrams: Datagrams, mode: UoaMode, way: Way) -> Iterator[tuple[Endpoint, Endpoint, SeenByLookup]]:
    """Two clients, as whom the director passes each on, and what the server sees: for the first and a later datagram.

    The server looks up whom recvfrom gave, and LIP:lport as well when it is told that.
    """
    datagrams.direct(way, uoa=Uoa(mode))
    to = Endpoint(way.vip, SERVICE_PORT)
    with (
        datagrams.serving(UDP_LOOKUP, way),
        datagrams.socket(way.sources[0], to) as first,
        datagrams.socket(way.sources[1], to) as second,
    ):
        for client in (first, second):
            ask_uoa(client)
        for client in (first, second):
            own = own_address(client)
            local = datagrams.director.connection(own).local
            yield own, local, ask_uoa(client, local)


def seen(sender: Endpoint, client: Endpoint) -> SeenByLookup:
    return SeenByLookup(sender, dict.fromkeys(("any", "local", "named"), Lookup(client, 0, UOA_SIZE)))


def heard(answer: SeenByLookup) -> SeenByLookup:
    """Of an answer what is the same on all kernels: before Linux 5.15 the question is not kept."""
    return replace(answer, lookups={name: each and replace(each, kept=True) for name, each in answer.lookups.items()})


@every_way
def test_the_client_is_known_by_its_own_address_and_by_the_director_s(
    datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way
) -> None:
    with ipvsca.counted(getsockopt_answered=4 + 6, recvmsg_restored=4):
        for client, _, answer in looked_up(datagrams, mode, way):
            assert heard(answer) == seen(way.shown(client), client)


@of_two_families
def test_a_client_of_another_family_is_known(datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way) -> None:
    with ipvsca.counted(getsockopt_answered=4 + 6, recvmsg_restored=0):
        for client, director, answer in looked_up(datagrams, mode, way):
            assert heard(answer) == seen(way.shown(director), client)


@every_way
def test_the_client_is_known_where_recvfrom_gives_the_director(
    datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way
) -> None:
    with ipvsca.having("udp_restore", "false"), ipvsca.counted(getsockopt_answered=4 + 6, recvmsg_restored=0):
        for client, director, answer in looked_up(datagrams, mode, way):
            assert heard(answer) == seen(way.shown(director), client)
