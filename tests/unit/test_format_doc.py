"""``docs/format.md`` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emitter import SCHEMA_VERSION, memory
from emitter.encoding import Encoder, heading
from emitter.memory import MAX_LOSSES, REASONS, RESERVE
from emitter.records import AUDIT_LOST, CONTROL_EVENTS, KINDS, SEGMENT_CLOSED, SEGMENT_OPENED, SEVERITY_NUMBERS, Kind
from emitter.segments import SegmentName, Void, footer_line, header_line, parse_footer, parse_header
from emitter.settings import KIB, MIN_LINE_BYTES, EmitterSettings

from ..trail import strict

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
STREAM = "0199e3c6a7b27c0e8d41c2f1a0b3d4e5"


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert match, f"no heading {title!r}"
    return match[1]


def table(text: str, header: str) -> list[list[str]]:
    """The rows of the table whose first cell of the head is ``header``."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


EXAMPLES = [
    strict(line.encode()) | {"line": line}
    for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in block.splitlines()
]


def test_the_examples_are_lines() -> None:
    assert [example["event_name"] for example in EXAMPLES] == [
        "order.created", "position.closed", SEGMENT_OPENED, AUDIT_LOST, SEGMENT_CLOSED,
    ]  # fmt: skip
    for example in EXAMPLES:
        control = example["event_name"] in CONTROL_EVENTS
        assert ("seq" in example) != control
        assert example["line"].startswith(f'{{"stream":"{STREAM}",' + ("" if control else '"seq":'))
        assert example["severity_number"] == SEVERITY_NUMBERS[example["severity_text"]]
    lost = EXAMPLES[3]["attributes"]
    assert lost["count"] == sum(r["last"] - r["first"] + 1 for r in lost["ranges"])


def test_the_control_lines_have_the_attributes_of_the_tables() -> None:
    opened, closed = (example["line"].encode() + b"\n" for example in (EXAMPLES[2], EXAMPLES[4]))
    header, footer = parse_header(opened), parse_footer(closed)
    assert header is not None
    assert footer is not None
    assert header.replaces == (Void(1, 1384),)
    assert header.schema_version == SCHEMA_VERSION
    name = SegmentName(STREAM, 2, "fox-bot")
    written = (
        header_line(name, service="s", resource={}, pid=1, ring=None, previous_sha256=None, replaces=(Void(1, 1384),)),
        footer_line(name, records=0, first_seq=None, last_seq=None, sha256="", hmac=""),
    )
    for event_name, line, example in zip((SEGMENT_OPENED, SEGMENT_CLOSED), written, (opened, closed), strict=True):
        documented = [row[0] for row in table(section(event_name), "attribute")]
        assert documented == list(strict(line)["attributes"]) == list(strict(example)["attributes"])
        assert list(strict(line)) == list(strict(example))
    assert [row[0] for row in table(section(AUDIT_LOST), "attribute")] == list(EXAMPLES[3]["attributes"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_fields_are_those_of_the_contract(kind: Kind) -> None:
    text = section(kind.event_name or "any other event name")
    assert f"Goes to `{kind.table}`" in text
    documented = [(name.rstrip("*"), type_, name.endswith("*")) for name, type_ in table(text, "field")]
    assert documented == [(field.name, field.type, field.required) for field in kind.fields]


def test_the_members_are_those_of_a_record() -> None:
    encoder = Encoder((), 65536)
    fields = {
        "timestamp": "2026-11-22T13:10:56.015Z",
        "trace_id": "a",
        "span_id": "b",
        "raw": b"x",
        "big": "x" * 70_000,
    }
    body = encoder.body(heading("x", "INFO").text, fields)
    written = strict(b'{"stream":"%b","seq":1' % STREAM.encode() + body)
    documented = [
        name for row in table(section("Members of a record"), "member") for name in re.findall(r"`(.*?)`", row[0])
    ]
    assert documented == list(written)


def test_severities() -> None:
    row = next(row for row in table(section("Members of a record"), "member") if row[0] == "`severity_text`")
    assert re.findall(r"`(.*?)`", row[2])[0].split() == list(SEVERITY_NUMBERS)
    numbers = ", ".join(str(number) for number in SEVERITY_NUMBERS.values())
    assert f"{numbers} for these" in section("Members of a record")


def test_the_reasons_and_their_numbers() -> None:
    assert [row[0] for row in table(section(AUDIT_LOST), "reason")] == list(REASONS)
    losses = next(row for row in table(section("7. The ring"), "word") if row[1] == "losses")
    assert ", ".join(f"{number} {reason}" for number, reason in enumerate(REASONS)) in losses[2]


def test_the_rings_words() -> None:
    words = {row[1]: row[0] for row in table(section("7. The ring"), "word")}
    for name in ("magic", "version", "capacity", "head", "written", "synced", "sync_begun", "sync_done", "slot",
                 "loss_at", "loss_count"):  # fmt: skip
        constant = getattr(memory, name.upper(), None)
        assert int(words[name]) == (getattr(memory, "_" + name.upper()) if not isinstance(constant, int)
                                    or name in {"magic", "version"} else constant)  # fmt: skip
    for number, first in enumerate(memory._SLOTS):
        assert words[f"slot {number}"] == f"{first}–{first + 3}"
    assert words["losses"] == f"{memory._LOSSES}–{memory._LOSSES + 3 * MAX_LOSSES - 1}"
    assert words["stream"] == f"byte {memory._STREAM_AT}"
    assert words["directory"] == f"byte {memory.DIRECTORY_AT}"
    assert 8 * (memory._LOSSES + 3 * MAX_LOSSES) <= memory._STREAM_AT
    assert memory.DIRECTORY_AT + memory.DIRECTORY_MAX == memory.HEADER_BYTES == 4096
    assert memory.MAGIC.to_bytes(8, "little") == b"TRAILRNG"


def test_the_limits() -> None:
    assert EmitterSettings().max_line_bytes == 64 * KIB
    assert f"at least {MIN_LINE_BYTES}" in DOCUMENT
    assert f"the last {RESERVE // KIB} KiB free" in DOCUMENT
    assert f"at most {MAX_LOSSES} |" in DOCUMENT


def test_the_invariants_are_numbered() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", section("10. Invariants"), re.MULTILINE)]
    assert numbers == list(range(1, 11))
