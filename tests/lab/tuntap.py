"""TUN and TAP devices: what one process writes there a network namespace receives, and what is sent there it reads."""

from __future__ import annotations

import fcntl
import os
import struct

TUN, TAP, VNET_HDR = 0x0001, 0x0002, 0x4000
"""Kinds of devices and what comes with them: IFF_TUN, IFF_TAP, IFF_VNET_HDR of linux/if_tun.h."""

_TUNSETIFF = 0x400454CA
_IFF_NO_PI = 0x1000


def open_device(name: str, flags: int, *, blocking: bool = True) -> int:
    """A descriptor of the device `name` in the network namespace we are in, which is made if there is none.

    Without VNET_HDR the kernel completes checksums and cuts GSO packets up before they are read.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | (0 if blocking else os.O_NONBLOCK))
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags | _IFF_NO_PI))
    return device
