"""A log that wants to be more than data: texts that drive terminals, pages, databases; files that are no segments."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, chdir
from pathlib import Path

from emitter.segments import SegmentName, header_line, new_stream
from tests.command import record, segment

# What a terminal obeys (ESC, OSC, CSI, the C1 form of CSI, direction marks), what SQL, COPY, CSV, HTML, Jinja, rich and
# spreadsheets read as their own, and what looks like nothing.
EVIL = (
    "\x1b]0;title\x07\x1b[2J\x1b[31m\x9b31m\u202eabc\u2066\r\n\x08\x7f<script>alert(1)</script>'; DROP TABLE "
    "monitoring.orders; --\\.\\N,\"=cmd|' /C calc'!A0 [bold red]x[/bold red][/]{{7*7}}${x}%s\u2028\u200b\U000e0041"
)


def hostile_log(directory: Path) -> Path:
    """A segment of records whose every text is hostile, and one line that is no record; its path."""
    stream, lines = new_stream(), []
    named = {"exchange": EVIL, "symbol": EVIL}
    order = named | {"order_id": EVIL, "client_order_id": EVIL, "type": EVIL, "side": EVIL, "status": EVIL}
    fill = named | {
        "price": 1,
        "executed_qty": 2,
        "position_id": EVIL,
        "fee": 1,
        "fee_currency": EVIL,
        "order_id": EVIL,
    }
    for event_name, fields in (
        ("order.created", order | {"size": 1, "price": 2, "position_id": EVIL, "fee_currency": EVIL}),
        ("order.updated", order | {"reason": EVIL}),
        ("trade.executed", fill | {"side": "buy", "trade_id": f"{EVIL}1"}),
        ("trade.executed", fill | {"side": "sell", "trade_id": f"{EVIL}2", "reason": EVIL}),
        (EVIL, named | {"correlation_id": EVIL, "error_message": EVIL, "stack_trace": EVIL, EVIL: EVIL}),
        ("order.created", order | {"order_id": "other", "price": EVIL}),
    ):
        lines.append(record(stream, len(lines) + 1, event_name, **fields))
    lines.append(b"no json " + EVIL.replace("\n", "").encode() + b"\n")
    return segment(directory, *lines, stream=stream, service=EVIL, resource={EVIL: EVIL})


def odd_files(directory: Path, elsewhere: Path, stack: ExitStack) -> list[str]:
    """Everything with a segment's name that is none, in a log directory; their names. ``elsewhere`` is linked to."""

    def named(service: str = "odd") -> Path:
        return directory / f"{service}.{new_stream()}.000001.jsonl"

    made = [named() for _ in range(6)]
    made[0].symlink_to(elsewhere)
    made[1].symlink_to(elsewhere.parent)
    made[2].symlink_to(directory / "nowhere")
    os.mkfifo(made[3])
    made[4].mkdir()
    listening = stack.enter_context(socket.socket(socket.AF_UNIX))
    with chdir(directory):  # a socket's path has 108 bytes at the most
        listening.bind(made[5].name)
    stream = new_stream()
    far = SegmentName(stream, 999_999_999, "far")
    (directory / str(far)).write_bytes(_header(far) + record(stream, 1))
    stream = new_stream()
    raw = os.fsencode(directory) + b"/\xff\xfe." + stream.encode() + b".000001.jsonl"
    Path(os.fsdecode(raw)).write_bytes(_header(SegmentName(stream, 1, "raw")) + record(stream, 1))
    (directory / f"line\nbreak.{new_stream()}.000001.jsonl").write_bytes(b"mine\n")
    (directory / f"deep.{new_stream()}.{'9' * 30}.jsonl").write_bytes(b"mine\n")
    archive = directory / "archive"
    archive.mkdir()
    for n, make in enumerate((os.mkfifo, lambda path: path.symlink_to(elsewhere), lambda path: path.write_bytes(b"?"))):
        make(archive / f"odd{n}.{new_stream()}.000001.jsonl.zst")
    return [path.name for path in made]


def _header(name: SegmentName) -> bytes:
    return header_line(name, service=name.service, resource={}, pid=1, ring=None, previous_sha256=None)
