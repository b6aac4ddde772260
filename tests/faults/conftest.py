"""What several tests of faults need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..bots import tmpfs_folder
from .interposer import Interposer, interposing


@pytest.fixture(scope="session")
def interposer() -> Iterator[Interposer]:
    with interposing() as running:
        yield running


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    with tmpfs_folder() as folder:
        yield folder
