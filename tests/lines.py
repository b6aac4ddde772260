"""Segment files made by hand, for tests of what reads them: any line can be put anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from emitter.segments import SegmentName, footer_line, header_line

STREAM = "0199e3c6a7b27c0e8d41c2f1a0b3d4e5"
OTHER_STREAM = "0199e3c6a7b27c0e8d41c2f1a0b3d4e6"


def order(**changes: Any) -> dict[str, Any]:
    """The attributes of an order; ``None`` leaves a field out."""
    return _without_none(
        {
            "position_id": "55",
            "exchange": "bybit",
            "symbol": "MNTUSDT",
            "order_id": "o1",
            "type": "MARKET",
            "side": "sell",
            "size": 94.7,
            "price": 2.1118,
            "status": "FILLED",
            **changes,
        }
    )


def update(**changes: Any) -> dict[str, Any]:
    return _without_none({"exchange": "bybit", "symbol": "MNTUSDT", "order_id": "o1", **changes})


def trade(**changes: Any) -> dict[str, Any]:
    return _without_none(
        {
            "position_id": "55",
            "exchange": "bybit",
            "symbol": "MNTUSDT",
            "side": "sell",
            "price": 2.1118,
            "executed_qty": 94.7,
            "order_id": "o1",
            "trade_id": "t1",
            **changes,
        }
    )


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def line(
    seq: int,
    event_name: str,
    attributes: dict[str, Any],
    *,
    stream: str = STREAM,
    timestamp: str | None = None,
    **more: Any,
) -> bytes:
    record = {
        "stream": stream,
        "seq": seq,
        "timestamp": timestamp or f"2026-11-22T13:10:{seq // 1000 % 60:02d}.{seq % 1000:03d}000Z",
        "severity_text": "INFO",
        "severity_number": 9,
        "event_name": event_name,
        "attributes": attributes,
        **more,
    }
    return json.dumps(record, default=_text, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(value: object) -> str:
    assert isinstance(value, Decimal)
    return str(value)


def segment(
    directory: Path,
    lines: Iterable[bytes],
    *,
    stream: str = STREAM,
    number: int = 1,
    closed: bool = True,
    tail: bytes = b"",
    service: str = "hand",
    **header: Any,
) -> Path:
    """Write a segment with a header, these lines, and (``closed``) a footer; ``tail`` follows at the very end."""
    directory.mkdir(mode=0o700, exist_ok=True)
    name = SegmentName.of(service, stream, number)
    first = header_line(
        name, service=service, resource={}, pid=1, ring=None, previous_sha256=None, **{"replaces": (), **header}
    )
    body = first + b"".join(lines)
    numbered = [json.loads(text).get("seq") for text in body.splitlines() if _is_record(text)]
    footer = footer_line(
        name,
        records=len(numbered),
        first_seq=min(numbered, default=None),
        last_seq=max(numbered, default=None),
        sha256=hashlib.sha256(body).hexdigest(),
    )
    path = directory / str(name)
    path.write_bytes(body + (footer if closed else b"") + tail)
    path.chmod(0o600)
    return path


def _is_record(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text).get("seq"), int)
    except (ValueError, AttributeError):
        return False
