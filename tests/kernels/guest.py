"""A guest: one of Debian's kernels under qemu's software emulation, with this machine's file system as its root.

What the guest writes stays in its memory. It has no network but its own.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.debian import Kernel

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

EARLY_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What it takes to reach the root; all others come from there."""

BOOT_ARGUMENTS = (
    "console=ttyS0 panic=-1 oops=panic "
    "mitigations=off init_on_alloc=0 apparmor=0 audit=0 rcupdate.rcu_expedited=1"  # what would only cost time
)
# One instruction is one nanosecond of the guest's time. So a timeout in a test is an amount of work, and expires no
# sooner where emulation is slow and the machine busy; waiting takes as long as it takes here.
QEMU = (
    *("nice", "-n", "19", "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", "2048"),
    *("-accel", "tcg", "-cpu", "qemu64,+rdrand", "-smp", "1", "-icount", "shift=0,sleep=on", "-rtc", "clock=vm"),
)

STATUS = re.compile(r"^exit status (\d+)$", re.MULTILINE)
COMPLAINT = re.compile(r"^.*(?:WARNING:|BUG:|Oops:|Kernel panic|INFO: task).*$", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How a guest ended. `status` is its command's, None where it did not come to an end."""

    status: int | None
    complaints: list[str]
    """What the kernel itself had to say: warnings, oopses."""


def run(kernel: Kernel, command: Sequence[str], log: Path, timeout: float, boot: str = "") -> Ended:
    """Boot, run a command in the repository, power off; no later than `timeout` seconds.

    `boot` are more arguments for the kernel. What the command says goes to `log`, what the kernel says to
    `console_of(log)`.
    """
    console = console_of(log)
    with tempfile.TemporaryDirectory() as temporary:
        ramdisk = _ramdisk(kernel, command, Path(temporary))
        with log.open("w") as output:
            qemu = subprocess.Popen(_qemu(kernel, ramdisk, console, boot), stdin=subprocess.DEVNULL, stdout=output)
            try:
                qemu.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            finally:
                qemu.kill()
                qemu.wait()
    status = STATUS.search(log.read_text(errors="replace"))
    complaints = COMPLAINT.findall(console.read_text(errors="replace"))
    return Ended(int(status[1]) if status else None, complaints)


def console_of(log: Path) -> Path:
    """Where a kernel's own messages go."""
    return log.with_suffix(".console")


def _qemu(kernel: Kernel, ramdisk: Path, console: Path, more: str) -> list[str | Path]:
    boot: list[str | Path] = ["-kernel", kernel.image, "-initrd", ramdisk, "-append", f"{BOOT_ARGUMENTS} {more}"]
    root = ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    return [*QEMU, *boot, *root, "-serial", f"file:{console}", "-serial", "stdio"]


def _ramdisk(kernel: Kernel, command: Sequence[str], temporary: Path) -> Path:
    """An initial RAM disk: busybox, what it runs, and the modules that it takes to reach the root."""
    folder = temporary / "ramdisk"
    modules = folder / "modules"
    modules.mkdir(parents=True)
    (folder / "bin").mkdir()
    shutil.copy("/bin/busybox", folder / "bin")
    shutil.copy(HERE / "init.sh", folder / "init")
    (folder / "init").chmod(0o755)
    variables = {"MODULES": str(kernel.modules), "FOLDER": str(REPOSITORY), "COMMAND": shlex.join(command)}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
    (folder / "guest").write_text("".join([*lines, (HERE / "guest.sh").read_text()]))
    (modules / "order").write_text("".join(f"{_unpacked(path, modules)}\n" for path in _early_modules(kernel)))
    archive = temporary / "ramdisk.cpio"
    _shell("find . | busybox cpio -o -H newc >../ramdisk.cpio", folder)
    return archive


def _early_modules(kernel: Kernel) -> list[Path]:
    """In the order in which they have to be loaded; those built into the kernel are not among them."""
    asked: list[str | Path] = ["modprobe", "--set-version", kernel.release, "--dirname", kernel.usr, "--show-depends"]
    lines = "".join(
        subprocess.run([*asked, name], check=True, capture_output=True, text=True).stdout for name in EARLY_MODULES
    )
    return [Path(path) for path in dict.fromkeys(re.findall(r"^insmod (\S+)", lines, re.MULTILINE))]


def _unpacked(module: Path, folder: Path) -> str:
    """Copy a module into a folder, unpacked, and give its name there."""
    shutil.copy(module, folder)
    if module.suffix == ".xz":
        subprocess.run(["unxz", folder / module.name], check=True)
    return module.name.removesuffix(".xz")


def _shell(line: str, folder: Path) -> None:
    subprocess.run(["sh", "-c", line], cwd=folder, check=True, stderr=subprocess.DEVNULL)
