"""Print what development takes beside what ipvsca itself imports: the requirements that `make lock` pins."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def development() -> list[str]:
    """The `dev` extra of pyproject.toml, as it stands there."""
    extras: dict[str, list[str]] = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    return extras["dev"]


if __name__ == "__main__":
    print(*development(), sep="\n")
