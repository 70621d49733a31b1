"""Tests for which this machine's kernel does not do: they need a module of it, its quiet, or another way to boot."""

from tests.e2e.conftest import datagrams, traffic  # noqa: F401  (fixtures)
