"""What people use instead: HAProxy with PROXY protocol version 2 in front of the same nginx, on the same CPUs.

Three variants in turn: nothing (nginx sees the director), ipvsca, and HAProxy. All of them get the same connections,
with the option in them.
"""

from __future__ import annotations

from functools import partial

from tests.bench import applications as apps
from tests.bench.run import Bench

PART = "proxy"
NOTHING, IPVSCA, HAPROXY = "nothing", "ipvsca", "HAProxy"
PORTS = {NOTHING: apps.HTTP_PORT, IPVSCA: apps.HTTP_PORT, HAPROXY: apps.PROXY_PORT}


def run(bench: Bench) -> None:
    """New connections, each with its address judged, and requests on connections that stay open."""
    stage, seconds = bench.stage, bench.seconds

    def new_connections(variant: str) -> float:
        """HAProxy is where the client itself arrives: it has to pass on whom it sees."""
        stage.restoring(variant == IPVSCA)
        rate, judged = apps.new_connections(stage, PORTS[variant], seconds, variant == IPVSCA)
        bench.results.judge(PART, judged)
        return rate

    def requests(variant: str) -> float:
        stage.restoring(variant == IPVSCA)
        with bench.judged_by_counters(PART, variant == IPVSCA):
            return apps.kept_requests(stage, PORTS[variant], seconds)

    with stage.naming_clients(bench.where), apps.nginx(stage), apps.haproxy(stage):
        for what, measure in (("new connections", new_connections), ("requests on kept connections", requests)):
            bench.interleave(PART, what, "/s", {variant: partial(measure, variant) for variant in PORTS})
