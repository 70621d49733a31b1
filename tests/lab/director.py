"""A FULLNAT director as a process: packets through a TUN device, control through stdin and stdout.

`python -m tests.lab.director TUN` starts without services. Each line on stdin is a request, each line on stdout its
answer, `{"answer": ...}` or `{"error": "..."}`:

    {"do": "configure", "settings": ...}   see messages.Settings; the first answer also says that we are ready
    {"do": "connections", "client": ...}   a list of messages.Connection: this client's, or all where it is null
    {"do": "forget", "client": ...}        how many connections were forgotten: this client's, or all where it is null
    {"do": "inject", "packets": [...]}     write IP packets (hex), for the kernel to forward
    {"do": "stats"}                        counters by name

What came on the TUN device before a request has been dealt with before its answer.

End of input ends it.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

from ipvsca.address import Endpoint
from tests.lab import tuntap
from tests.lab.fullnat import Fullnat
from tests.lab.messages import Settings, encode

LONGEST_PACKET = 65536
QUEUE = 20000  # packets that the TUN device holds for us
BURST = 64  # packets read before the control channel gets its turn
SWEEP_INTERVAL = 1.0  # seconds


def carry(tun: int, fullnat: Fullnat, most: int) -> None:
    """Handle the packets that wait on the TUN device, at most so many."""
    for _ in range(most):
        try:
            packet = os.read(tun, LONGEST_PACKET)
        except BlockingIOError:
            return
        for out in fullnat.handle(packet):
            try:
                os.write(tun, out)
            except OSError as error:
                fullnat.counters[f"write_{error.strerror}"] += 1


def answer(line: bytes, tun: int, fullnat: Fullnat) -> bytes:
    """The answer to a line on the control channel."""
    try:
        return encode({"answer": _answer(json.loads(line), tun, fullnat)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        return encode({"error": f"{type(error).__name__}: {error}"})


def _answer(request: dict[str, Any], tun: int, fullnat: Fullnat) -> object:
    match request["do"]:
        case "configure":
            fullnat.configure(Settings.from_json(request["settings"]))
            return None
        case "connections":
            return fullnat.connections(_client(request))
        case "forget":
            return fullnat.forget(_client(request))
        case "inject":
            for packet in request["packets"]:
                os.write(tun, bytes.fromhex(packet))
            return None
        case "stats":
            return fullnat.counters
        case unknown:
            raise ValueError(f"unknown request {unknown!r}")


def _client(request: dict[str, Any]) -> Endpoint | None:
    client = request["client"]
    return None if client is None else Endpoint.parse(client)


def serve(tun: int, fullnat: Fullnat) -> None:
    """Carry packets and answer requests until stdin ends."""
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    unread = b""
    while True:
        ready, _, _ = select.select([tun, stdin], [], [], SWEEP_INTERVAL)
        if tun in ready:
            carry(tun, fullnat, BURST)
        if stdin in ready:
            received = os.read(stdin, LONGEST_PACKET)
            if not received:
                return
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                carry(tun, fullnat, QUEUE)
                os.write(stdout, answer(line, tun, fullnat))
        if not ready:
            fullnat.sweep()


def main() -> None:
    """Run on the TUN device named by the first argument."""
    # On one CPU: the kernel keeps packets in order for a CPU, not for a process that moves to another.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fullnat = Fullnat(Settings(), time.monotonic)
    serve(tuntap.open_device(sys.argv[1], tuntap.TUN, blocking=False), fullnat)


if __name__ == "__main__":
    main()
