"""Real server applications that report which client they saw; the table of them, and how to run and ask one."""

from .catalogue import APPS, App, Stack, app
from .runner import NotReady, Running, running
from .seen import Access, Seen, accesses, answer, answer_http, endpoint, v4_mapped

__all__ = [
    "APPS",
    "Access",
    "App",
    "NotReady",
    "Running",
    "Seen",
    "Stack",
    "accesses",
    "answer",
    "answer_http",
    "app",
    "endpoint",
    "running",
    "v4_mapped",
]
