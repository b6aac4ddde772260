"""Rejected lines on their way out of the database, to be mended by hand, and back in.

One line of JSON each: ``stream``, ``segment`` and ``byte_offset`` name the line, ``line`` is its text. Where it is no
text, ``line`` is null and ``line_base64`` has its bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from .. import statements
from ..database import Database
from ..settings import MIB
from ..staging import filled
from ..text import json_escaped

# What is held in memory at once, and taken in one transaction.
PAGE_LINES = 2000
PAGE_BYTES = 16 * MIB
_STREAM = re.compile(r"[0-9a-f]{32}")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines are meant; None: any. ``stream`` may be a part of a stream's id."""

    stream: str | None = None
    severity: str | None = None
    rule: str | None = None
    since: datetime | None = None

    @property
    def parameters(self) -> tuple[str | None, str | None, str | None, datetime | None]:
        return self.stream, self.severity, self.rule, self.since


@dataclass(frozen=True, slots=True)
class Entry:
    """A mended line as a file gives it: the line of that file it stands in, the place it names, and its bytes."""

    number: int
    stream: str
    segment: int
    byte_offset: int
    data: bytes

    @property
    def place(self) -> tuple[str, int, int]:
        return self.stream, self.segment, self.byte_offset


class Malformed(Exception):
    """A line of a file that is no mended line; says why."""


async def extent(database: Database, asked: Asked) -> tuple[int, int]:
    """How many lines are meant, and the last one's id."""
    row = await database.fetchrow(_sql("extent"), *asked.parameters)
    assert row is not None  # noqa: S101  an aggregate has a row
    return row["lines"], row["last"]


async def page(database: Database, asked: Asked, after: int, last: int) -> list[dict[str, Any]]:
    """The next lines by id, whole; empty at the end."""
    return await database.fetch(_sql("page"), *asked.parameters, after, last, PAGE_LINES, PAGE_BYTES)


async def at_places(database: Database, places: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """What is known of lines at (stream, segment, byte_offset), in that order: id or None, seq, and how they stand."""
    streams, segments, offsets = ([place[n] for place in places] for n in range(3))
    return await database.fetch(_sql("at_places"), streams, segments, offsets)


async def export(database: Database, asked: Asked) -> AsyncGenerator[str]:
    """The lines that are meant, each as one line of JSON."""
    after, (_, last) = 0, await extent(database, asked)
    while rows := await page(database, asked, after, last):
        after = rows[-1]["id"]
        for row in rows:
            yield _exported(row)


def exact(row: dict[str, Any]) -> bytes:
    """The bytes of a kept line."""
    return bytes(row["raw_bytes"]) if row["raw_bytes"] is not None else str(row["raw"]).encode()


def _exported(row: dict[str, Any]) -> str:
    names = ("stream", "segment", "byte_offset", "seq", "severity", "reasons", "event_name")
    value = {name: row[name] for name in names}
    if row["raw_bytes"] is None:
        value["line"] = row["raw"]
    else:
        value |= {"line": None, "line_base64": base64.b64encode(row["raw_bytes"]).decode()}
    return json_escaped(json.dumps(value, ensure_ascii=False)) + "\n"


def read_entries(lines: Iterable[bytes]) -> Iterator[Entry | tuple[int, Malformed]]:
    """The mended lines of a file, one by one; for what is none the line's number and why."""
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield _entry(number, text)
        except Malformed as error:
            yield number, error


def _entry(number: int, text: bytes) -> Entry:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"is no JSON: {str(error).split(': line ')[0]}") from None
    if not isinstance(value, dict):
        raise Malformed("is no JSON object")
    stream, segment, byte_offset = (value.get(name) for name in ("stream", "segment", "byte_offset"))
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream):
        raise Malformed("stream is missing, or no id of a stream")
    if not _is_place(segment) or not _is_place(byte_offset):
        raise Malformed("segment or byte_offset is missing, or no whole number")
    return Entry(number, stream, segment, byte_offset, _data(value))


def _is_place(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _data(value: dict[str, Any]) -> bytes:
    line, encoded = value.get("line"), value.get("line_base64")
    try:
        if isinstance(line, str):
            data = line.encode()
        elif line is None and isinstance(encoded, str):
            data = base64.b64decode(encoded, validate=True)
        else:
            raise Malformed("line is missing, or no text")
    except UnicodeEncodeError:
        raise Malformed("line holds half a character") from None
    except binascii.Error:
        raise Malformed("line_base64 is no base64") from None
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in data:
        raise Malformed("line holds a line break; a record is one line")
    return data


def _sql(name: str) -> str:
    sql = statements.load("load/retry.sql")
    return filled(sql[name], asked=sql["asked"])
