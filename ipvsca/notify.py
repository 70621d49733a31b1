"""What a service tells systemd of itself (sd_notify(3)): datagrams to a socket that the environment names."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

MICROSECONDS = 1_000_000


class Notifier:
    """Does nothing where nobody listens."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def ready(self, status: str) -> None:
        """Started, or done with a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """What it is doing, in a line."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """The work goes on: resets the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        path = self._address.replace("@", "\0", 1) if self._address.startswith("@") else self._address
        # Without systemd at the other end the work goes on all the same.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.sendto("\n".join(lines).encode(), path)


def watchdog_interval_s() -> float | None:
    """How long systemd waits for a sign of life; None where it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / MICROSECONDS if microseconds else None
