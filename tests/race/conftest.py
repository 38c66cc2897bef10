"""What the tests of race exploration share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.guests import Builder


@pytest.fixture(scope="session")
def directory(guests: Builder) -> Path:
    """Where the example programs are built, each once for all who ask for it."""
    path = guests.directory / "examples"
    if not path.exists():
        path.mkdir(exist_ok=True)
        path.chmod(guests.directory.stat().st_mode & 0o7777)  # other users may build there, too
    return path
