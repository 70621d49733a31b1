"""What ipvsca wants to be, in the words in which tables show it; by what was measured."""

from __future__ import annotations

TARGETS = {
    "new connections, accept loop": "≥ 0.98",
    "new connections, nginx": "≥ 0.98",
    "requests on kept connections, nginx": "≥ 0.99",
    "bulk throughput": "≥ 0.99",
    "DNS queries, 256 flows, dnsperf": "≥ 0.96",
    "tc: established TCP segment": "≤ 15 ns",
    "sock_ops, a connection: option in the ACK": "≤ 200 ns",
    "getpeername: option in the ACK": "≤ 40 ns",
    "recvmsg: hit": "≤ 80 ns, ≤ 160 ns at 1,000,000",
    "sendmsg: hit": "≤ 80 ns, ≤ 160 ns at 1,000,000",
    "kernel's memory, a flow": "≤ 200",
    "daemon's memory": "≤ 35 at 1,000, ≤ 45 at 1,000,000",
    "sweep": "≤ 1 at 1,000,000",
    "recvmsg: hit, while flows are swept": "as without a sweep",
    "ipvsca load, cold": "≤ 0.8 s",
    "ipvsca load, nothing to do": "≤ 0.25 s",
    "segment with a request": "≤ +60",
    "its ratio to not loaded": "≤ 1.010",
    "new connections": "HAProxy / ipvsca ≤ 0.5",
}
