"""The breakages, part by part: a file of TOML each, that :mod:`tests.breakages.breakage` explains."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ..breakage import Breakage

# In the order in which a record passes by.
_PARTS = ("ring", "writer", "recovery", "bot", "loading", "postgres", "archive", "metrics", "proof", "surface")


def _read(part: str) -> list[Breakage]:
    listed = tomllib.loads(Path(__file__).with_name(f"{part}.toml").read_text(encoding="utf-8"))["breakage"]
    return [Breakage(**{**entry, "seen_by": tuple(entry["seen_by"])}) for entry in listed]


ALL: tuple[Breakage, ...] = tuple(breakage for part in _PARTS for breakage in _read(part))
