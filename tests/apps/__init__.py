"""Real server applications that report which client they saw; the tables of them, and how to run and ask one."""

from .catalogue import APPS, App, app
from .datagrams import SeenDatagram, ask_udp, read_datagram
from .dns_log import Query, queries
from .program import Program, Stack
from .runner import NotReady, Running, running
from .seen import Access, Seen, accesses, answer, answer_http, endpoint, v4_mapped
from .udp_catalogue import UDP_APPS, UdpApp, udp_app

__all__ = [
    "APPS",
    "UDP_APPS",
    "Access",
    "App",
    "NotReady",
    "Program",
    "Query",
    "Running",
    "Seen",
    "SeenDatagram",
    "Stack",
    "UdpApp",
    "accesses",
    "answer",
    "answer_http",
    "app",
    "ask_udp",
    "endpoint",
    "queries",
    "read_datagram",
    "running",
    "udp_app",
    "v4_mapped",
]
