"""The loader's settings: one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What ``load`` and ``watch`` go by; units stand in the names."""

    directory: Path
    dsn: str
    batch_bytes: int = 16 * MIB
    deadline_s: float = 30.0
    # How long a database that is away is waited for; None: for ever (watch).
    timeout_s: float | None = 60.0
    rescan_s: float = 5.0
    rules: Path | None = None
    # Where watch serves its figures; None: nowhere.
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
