"""For a bot's own tests: a log of a test's own, and what was written to it.

``pytest_plugins = ["emitter.testing"]`` in the ``conftest.py`` at the root of the tests gives them the fixtures
``audit_log`` and ``captured_records``. Needs pytest, which nothing else of this package does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from .audit import AuditLog
from .segments import list_segments, open_regular

_RING_BYTES = 1024 * 1024
_TIMEOUT_S = 10.0


@pytest.fixture
def audit_log(tmp_path: Path) -> Iterator[AuditLog]:
    """An ``AuditLog`` in ``tmp_path / "audit"``, closed when the test ends. It leaves nothing elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tmp_path is seldom on tmpfs, and a test need not outlive a kill
        log = AuditLog(tmp_path / "audit", service="test", ring_dir=tmp_path, ring_bytes=_RING_BYTES)
    with log:
        yield log


@pytest.fixture(name="captured_records")
def _captured_records(audit_log: AuditLog) -> Callable[..., list[dict[str, Any]]]:
    """:func:`captured_records` of the test's ``audit_log``."""
    return partial(captured_records, audit_log)


def captured_records(log: AuditLog, *event_names: str) -> list[dict[str, Any]]:
    """The records written to a log so far, in their order, of these names or of all; works on a closed log, too.

    They are read back from its files, so that a test sees what the loader will see: each a dict with ``seq``,
    ``timestamp``, ``event_name``, ``attributes`` (where a ``Decimal`` is a string) and the other members of
    ``docs/format.md``. A ``TimeoutError`` where the log cannot be written.
    """
    if not log.flush(_TIMEOUT_S):
        raise TimeoutError(f"the log is not written after {_TIMEOUT_S:g} seconds: {log.stats().last_error}")
    stream, directory = log.stats().stream, log._core.settings.directory  # noqa: SLF001  its own package
    records: dict[int, dict[str, Any]] = {}
    for name in list_segments(directory):
        if name.stream == stream:
            records |= _records(directory / str(name))
    return [record for _, record in sorted(records.items()) if not event_names or record["event_name"] in event_names]


def _records(path: Path) -> dict[int, dict[str, Any]]:
    """The records of a segment by their seq. What a failed sync made void stands again, whole, in a later one."""
    with open_regular(path) as file:
        lines = [orjson.loads(line) for line in file if line.endswith(b"\n")]
    return {line["seq"]: line for line in lines if "seq" in line}
