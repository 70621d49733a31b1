"""The manifest for Kubernetes: it is valid, and what it gives the containers is enough for what they do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ipvsca import __version__, settings
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import SOCKOPS
from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, Traffic, assert_restored, assert_untouched
from tests.kernel_state import KernelState, settles
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import REPOSITORY

ACCEPT = app("c-accept")
MANIFEST = list(yaml.safe_load_all((REPOSITORY / "packaging/kubernetes.yaml").read_text()))
KINDS = {resource["kind"]: resource for resource in MANIFEST}
POD = KINDS["DaemonSet"]["spec"]["template"]["spec"]
LOAD, DAEMON = (*POD["initContainers"], *POD["containers"])
PATCH = yaml.safe_load((REPOSITORY / "packaging/kubernetes-unload.yaml").read_text())["spec"]["template"]["spec"]
(UNLOAD,) = PATCH["initContainers"]
OLDEST, NEWEST = "1.25", "1.37"

# argv: a directory to mount things on, the image's layers, the command; mounts come as lines of standard input.
_CONTAINER = """
set -e
mount -t tmpfs tmpfs "$0" && cd "$0" && mkdir upper work root
mount -t overlay overlay -o lowerdir="$1",upperdir=upper,workdir=work root && cd root
mount -t proc proc proc && mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
while read from to options; do
    mkdir -p .$to
    mount --bind $from .$to
    mount -o remount,bind,$options .$to
done
pivot_root . mnt && umount -l /mnt && mount -o remount,bind,ro /
shift && exec setpriv --no-new-privs "$@"
"""


class Node:
    """The lab's real server as a node: its network, cgroups and BPF file system."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._cgroup = lab.cgroup / "pod"
        self._cgroup.mkdir(exist_ok=True)
        self._folder, self._empty, self._configuration = (
            folder / name for name in ("mounts", "empty", "configuration")
        )
        for each in (self._folder, self._empty, self._configuration):
            each.mkdir()
        for name, text in KINDS["ConfigMap"]["data"].items():
            (self._configuration / name).write_text(text)

    @contextmanager
    def container(self, spec: dict[str, Any], image: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """One of the manifest's containers, with its own arguments or others; killed at the end of the block."""
        capabilities = ",".join(f"+{name.lower()}" for name in spec["securityContext"]["capabilities"]["add"])
        command = [f"--bounding-set=-all,{capabilities}", "ipvsca", *(arguments or spec["args"])]
        unshare = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        process: subprocess.Popen[str] = self._lab.server.popen(
            [*unshare, "sh", "-c", _CONTAINER, self._folder, image, *command],
            cgroup=self._cgroup,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        with process, process.stdin as stdin:
            stdin.writelines(f"{line}\n" for line in self._mounts(spec))
            stdin.close()
            try:
                yield process
            finally:
                process.kill()

    def run(self, spec: dict[str, Any], image: str, *arguments: str) -> str:
        """A container that runs to its end; what it said."""
        with self.container(spec, image, *arguments) as process:
            assert process.stdout is not None
            said = process.stdout.read()
            assert process.wait() == 0, said
        return said

    def _mounts(self, spec: dict[str, Any]) -> Iterator[str]:
        volumes = {volume["name"]: self._path(volume) for volume in POD["volumes"]}
        for mount in spec["volumeMounts"]:
            yield f"{volumes[mount['name']]} {mount['mountPath']} {'ro' if mount.get('readOnly') else 'rw'}"

    def _path(self, volume: dict[str, Any]) -> Path:
        match volume:
            case {"configMap": _}:
                return self._configuration
            case {"emptyDir": _}:
                return self._empty
            case {"hostPath": {"path": path}}:
                return {"/sys/fs/cgroup": self._lab.cgroup, "/sys/fs/bpf": self._lab.bpffs}[path]
        raise ValueError(volume)


def status(lab: Lab, probe: dict[str, Any]) -> int:
    """What a probe is answered on the node."""
    get = probe["httpGet"]
    (port,) = (each["containerPort"] for each in DAEMON["ports"] if each["name"] == get["port"])
    with lab.server.entered():
        connection = HTTPConnection(get["host"], port, timeout=10)
        connection.request("GET", get["path"])
    with closing(connection):
        return connection.getresponse().status


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("resource", MANIFEST, ids=lambda resource: resource["kind"])
def test_it_is_valid(resource: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


def test_the_patch_is_for_its_containers() -> None:
    assert {each["name"] for part in PATCH.values() for each in part} == {LOAD["name"], DAEMON["name"]}


def test_its_settings_are_accepted(tmp_path: Path) -> None:
    ((name, text),) = KINDS["ConfigMap"]["data"].items()
    file = tmp_path / name
    file.write_text(text)
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in DAEMON["volumeMounts"]}
    read = settings.read_file(file)
    assert mounts["configuration"] / name == settings.DEFAULT_FILE
    assert (Path(read.cgroup), read.pin_path.parent) == (mounts["cgroup"], mounts["bpf"])


def test_the_image_has_the_name_of_this_version() -> None:
    assert LOAD["image"] == DAEMON["image"] == f"ipvsca:{__version__}"


def test_a_pod_comes_is_upgraded_and_goes(lab: Lab, traffic: Traffic, images: list[str], tmp_path: Path) -> None:
    """It restores from when it has loaded on, without the pod too, until it is unloaded."""
    picture = partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)
    before = picture()
    node = Node(lab, tmp_path)
    traffic.direct(IPV4, Toa(Where.ACK))
    with traffic.serving(ACCEPT, IPV4):
        node.run(LOAD, images[0])
        loaded = picture()
        with node.container(DAEMON, images[0]) as daemon:
            assert daemon.stdout is not None
            assert any(line == "running\n" for line in daemon.stdout)
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
            assert all(status(lab, DAEMON[probe]) == HTTPStatus.OK for probe in ("readinessProbe", "livenessProbe"))
            assert "Addresses are being restored." in node.run(DAEMON, images[0], "check")
            Pins.at(lab.bpffs / "ipvsca").link(SOCKOPS).unlink()
            assert status(lab, DAEMON["readinessProbe"]) == HTTPStatus.SERVICE_UNAVAILABLE
            assert status(lab, DAEMON["livenessProbe"]) == HTTPStatus.OK
            node.run(LOAD, images[0])
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        node.run(LOAD, images[1])
        assert picture().of_kind("map") == loaded.of_kind("map")
        assert picture().of_kind("prog").isdisjoint(loaded.of_kind("prog"))
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        node.run(LOAD, images[1], *UNLOAD["args"])
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    settles(picture, before)
