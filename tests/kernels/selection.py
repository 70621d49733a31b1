"""Which tests run on each kernel: what the kernel does for ipvsca, each once.

Emulation costs a factor of 20 and more. So the parsers' tables and random packets stay away: they are the same
instructions on every kernel, and an answer of the verifier to them is part of each load. What is here needs a kernel
for something that kernels do differently, or once did not do at all.
"""

from __future__ import annotations

_TCP = "tests/e2e/test_tcp.py::"
_UDP = "tests/e2e/test_udp.py::"
_UDP_APP = f"{_UDP}test_every_application_sees_its_client"

QUICK = (
    # The verifier takes every program; links, pins, tc filters and maps are made, shown and taken away again; TCP by
    # options in the SYN and in the ACK, IPv6 and NAT64; UDP by announcement and UOA, and the way back; lookup calls.
    "tests/e2e/test_in_short.py",
)
"""Two minutes of emulation."""

REPRESENTATIVE = (
    *QUICK,
    # sock_diag tells what the socket storage holds.
    f"{_TCP}test_list_shows_who_is_behind_whom",
    # Programs, links, maps and filters come and go by the command line.
    "tests/e2e/test_lifecycle.py::test_unload_leaves_nothing",
    # accept is another path in the kernel for IPv6 sockets, and for io_uring.
    f"{_TCP}test_every_application_sees_its_client[ipv6-c-accept]",
    f"{_TCP}test_every_application_sees_its_client[ipv4-on-dual-c-uring]",
    # No socket is kept for the SYN: sock_ops runs on one that is made from the ACK alone.
    f"{_TCP}test_syn_cookies[syn-ipv4]",
    f"{_TCP}test_syn_cookies[ack-nat64-on-dual]",
    # Every way of the kernel to receive and to send a datagram.
    f"{_UDP_APP}[dual-stack-c-recvmmsg]",
    f"{_UDP_APP}[bound-c-peek]",
    f"{_UDP_APP}[bound-c-uring]",
    f"{_UDP_APP}[any-c-gro]",
    f"{_UDP_APP}[any-c-segment]",
    f"{_UDP_APP}[any-c-pktinfo]",
    f"{_UDP_APP}[dual-stack-c-connect]",
    f"{_UDP}test_a_connected_socket",
    f"{_UDP}test_a_tcp_connect_to_a_client",
    f"{_UDP}test_a_tcp_connection_that_was_announced",
    # Maps read in batches; which entry an LRU map gives up.
    f"{_UDP}test_the_daemon_sweeps_what_is_forgotten",
    "tests/bpf/test_ageing.py::test_every_flow_is_accounted_for",
    "tests/bpf/test_announced.py::test_a_full_table_costs_the_oldest_not_the_newest",
    # Packets whose headers are not in one piece; devices without link layer.
    "tests/bpf/test_ingress_paged.py",
    "tests/e2e/test_devices.py",
    # Links are updated in place under traffic; what a link, and a hook held by others, tell of themselves.
    "tests/e2e/test_lifecycle.py::test_another_version_takes_over_in_the_middle_of_traffic",
    "tests/e2e/test_check.py::test_loaded",
    "tests/e2e/test_check.py::test_a_link_is_gone[ipvsca_peer4]",
    # Which capabilities, and whose memory, maps and programs take.
    "tests/e2e/test_missing.py::test_more_capabilities_are_not_needed",
    "tests/e2e/test_missing.py::test_memory_that_may_not_be_locked",
    "tests/e2e/test_missing.py::test_a_hook_that_another_program_holds_alone",
    "tests/e2e/test_missing.py::test_maps_with_another_number_of_entries",
    # Who else holds on to a connection, and what becomes of calls and connections as programs go away.
    "tests/e2e/test_what_broke_modules.py",
    "tests/e2e/test_unloaded_meanwhile.py::test_replaced_and_unloaded_while_a_getpeername_waits",
    "tests/e2e/test_unloaded_meanwhile.py::test_loaded_and_unloaded_while_accept_waits",
    "tests/guests/test_tls.py",
    "tests/guests/test_leaks.py",
    "tests/guests/test_lockdown.py",
    # Somebody sets the clock.
    "tests/guests/test_clock.py",
    # The whole trust model: options in every place, whoever puts them there.
    "tests/e2e/test_spoofing.py",
    "tests/e2e/test_neighbours.py",
)

ALL = ("tests/e2e", "tests/bpf", "tests/guests")

EACH = ("-p", "tests.kernels.each", *ALL)

SELECTIONS = {"quick": QUICK, "representative": REPRESENTATIVE, "each": EACH, "all": ALL}
