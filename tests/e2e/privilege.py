"""Prefixes of commands that take away what root may do."""

from __future__ import annotations

from tests.kernel_state import KERNEL

# Before Linux 5.11 maps count as locked memory of their user; to later kernels that limit means nothing.
MAPS_ARE_LOCKED_MEMORY = KERNEL < (5, 11)
MEMORY = ["prlimit", "--memlock=unlimited"] if MAPS_ARE_LOCKED_MEMORY else []


def with_capabilities(*kept: str) -> list[str]:
    """Root with no capabilities but these."""
    return ["setpriv", f"--bounding-set={','.join(['-all', *(f'+{name}' for name in kept)])}", "--inh-caps=-all"]
