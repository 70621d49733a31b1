"""A Python process on the real server that does what a test tells it, so that a test decides every single call.

`python puppet.py` reads one expression or statement a line and answers one line: what came of it, as a Python literal.
"""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.namespace import Namespace
    from tests.lab.topology import Lab

TIMEOUT_S = 10.0


class Puppet:
    """The test's end: call it with source text. Raises RuntimeError with the other end's exception."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, source: str) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(source + "\n")
        stdin.flush()
        kind, result = ast.literal_eval(stdout.readline())
        if kind == "error":
            raise RuntimeError(result)
        return result


@contextmanager
def puppet(lab: Lab, namespace: Namespace | None = None) -> Iterator[Puppet]:
    """In the cgroup whose services are restored; on the real server, or in another namespace."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = (namespace or lab.server).popen([sys.executable, Path(__file__)], cgroup=lab.cgroup, **pipes)
    try:
        yield Puppet(process)
    finally:
        process.kill()
        process.communicate()


def _obey() -> None:
    names: dict[str, Any] = {name: getattr(socket, name) for name in dir(socket)}
    socket.setdefaulttimeout(TIMEOUT_S)
    for line in sys.stdin:
        try:
            try:
                said = ("result", _plain(eval(line, names)))
            except SyntaxError:
                exec(line, names)
                said = ("result", None)
        except OSError as error:
            said = ("error", repr(error))
        print(repr(said), flush=True)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str | bytes | tuple | type(None)) else repr(value)


if __name__ == "__main__":
    _obey()
