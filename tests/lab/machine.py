"""A machine that boots: systemd as the first process of namespaces of its own, in the network of the lab's real server.

Its root is this machine's, with a layer on top that takes what is written and ends with it. /dev, /run, /tmp, the BPF
file system and the cgroups are its own; it cannot load modules, set the clock or write to /proc/sys.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.lab.namespace import Namespace

TIMEOUT = 60.0  # seconds
SYSTEMD = Path("/lib/systemd/systemd")

# argv: a directory to mount things on, files that the machine has besides, a socket to tell that it is up.
_BOOT = """
set -e
mount -t tmpfs tmpfs "$0" && cd "$0" && mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root && cd root
rm -rf etc/systemd/system && cp -r "$1"/. .
mount -t proc proc proc && mount -o bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup && mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs dev && mkdir dev/shm dev/pts && ln -s /proc/self/fd dev/fd
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666 && ln -s pts/ptmx dev/ptmx
for device in full null random tty urandom zero; do touch dev/$device && mount --bind /dev/$device dev/$device; done
mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp
pivot_root . mnt && umount -l /mnt
exec setpriv --bounding-set=-sys_module,-sys_boot,-sys_time,-sys_rawio \
    env -i container=lab NOTIFY_SOCKET="$2" /lib/systemd/systemd --log-target=journal
"""


class Machine:
    """Commands run in it as root."""

    def __init__(self, pid: int, cgroup: Path) -> None:
        self._pid = pid
        self.cgroup = cgroup
        """Its root cgroup, as it is seen from outside."""

    def run(self, *argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """To its end; `options` are those of subprocess.run. Raises CalledProcessError with what was said."""
        enter = ["nsenter", "--target", str(self._pid), "--all", "--"]
        options = {"capture_output": True, "text": True, "timeout": TIMEOUT} | options
        try:
            return subprocess.run([*enter, *argv], check=check, **options)
        except subprocess.CalledProcessError as error:
            error.add_note(f"it said: {error.stdout}{error.stderr}")
            raise


@contextmanager
def booted(server: Namespace, cgroup: Path, folder: Path, files: Path) -> Iterator[Machine]:
    """Booted with everything that is in `files` on top of this machine's root, until all its services have started.

    `cgroup` is made for it, `folder` is an empty one to mount things on.
    """
    cgroup.mkdir()
    unshare = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
    with server.entered():  # a socket with an abstract name belongs to its network namespace
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ExitStack() as stack:
        with ready:  # closed once it is up: systemd goes on telling, and would wait for us to read
            ready.bind(f"\0{cgroup.name}")
            ready.settimeout(TIMEOUT)
            process = server.popen([*unshare, "sh", "-c", _BOOT, folder, files, f"@{cgroup.name}"], cgroup=cgroup)
            stack.callback(process.wait)
            stack.callback(process.kill)
            while b"READY=1" not in ready.recv(4096):
                pass
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Machine(int(first), cgroup)
