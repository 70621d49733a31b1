"""TCP with ipvsca and without: new connections, requests on connections that stay open, bulk throughput."""

from __future__ import annotations

from functools import partial

from tests.bench import applications as apps
from tests.bench.run import Bench

PART = "tcp"


def run(bench: Bench) -> None:
    """Every comparison in turn. The address of each connection is judged, where the client cannot, by ipvsca."""
    stage, seconds = bench.stage, bench.seconds

    def new_connections(port: int, restored: bool) -> float:
        rate, judged = apps.new_connections(stage, port, seconds, restored)
        bench.results.judge(PART, judged)
        return rate

    def requests(restored: bool) -> float:
        with bench.judged_by_counters(PART, restored):
            return apps.kept_requests(stage, apps.HTTP_PORT, seconds)

    def bulk(restored: bool) -> float:
        with bench.judged_by_counters(PART, restored):
            return apps.bulk(stage, seconds)

    with stage.naming_clients(bench.where), apps.accept_loop(stage), apps.nginx(stage), apps.iperf3(stage):
        bench.compare(PART, "new connections, accept loop", "/s", partial(new_connections, apps.BARE_PORT))
        bench.compare(PART, "new connections, nginx", "/s", partial(new_connections, apps.HTTP_PORT))
        bench.compare(PART, "requests on kept connections, nginx", "/s", requests)
        bench.compare(PART, "bulk throughput", "Gbit/s", bulk)
