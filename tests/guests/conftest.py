"""Tests for which this machine's kernel does not do: they need a module, or a kernel that was booted in another way."""

from tests.e2e.conftest import traffic

__all__ = ["traffic"]
