import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.audit import AuditLog
from emitter.ring import RESERVE
from loader import backfill as module
from loader.backfill import BackfillSummary, Entry, Unreadable, backfill, read_entries
from loader.errors import EnvironmentFault, UsageError

ORDER = '{"id": "A-1", "symbol": "SOL/USDT", "status": "open", "amount": 0.10000000000000000001, "filled": 0}'
TRADE = '{"id": "T-1", "symbol": "SOL/USDT", "order": "A-1", "takerOrMaker": "taker", "price": 141.20}'


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def entries_of(path: Path) -> list[Entry]:
    """The entries of a file in which all can be read."""
    entries = [entry for entry in read_entries(path) if isinstance(entry, Entry)]
    assert len(entries) == len(list(read_entries(path)))
    return entries


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "entries.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@dataclass
class Ring:
    ring_bytes: int = 32 * 1024 * 1024
    ring_used_bytes: int = 0


@dataclass
class Audit:
    """An audit log that remembers; each record takes ``record_bytes`` of the ring until a flush."""

    ring: Ring = field(default_factory=Ring)
    record_bytes: int = 0
    flushes_work: bool = True
    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    flushes: list[tuple[int, float]] = field(default_factory=list)

    def order(self, **fields: Any) -> int:
        return self._take("order", fields)

    def trade(self, **fields: Any) -> int:
        return self._take("trade", fields)

    def stats(self) -> Ring:
        return self.ring

    def flush(self, timeout: float) -> bool:
        self.flushes.append((len(self.records), timeout))
        if self.flushes_work:
            self.ring.ring_used_bytes = 0
        return self.flushes_work

    def _take(self, kind: str, fields: dict[str, Any]) -> int:
        self.records.append((kind, fields))
        self.ring.ring_used_bytes += self.record_bytes
        assert self.ring.ring_used_bytes <= self.ring.ring_bytes - RESERVE, "the ring overflowed"
        return len(self.records)


def test_json_lines_give_one_entry_each_with_exact_numbers(file: Any) -> None:
    path = file(f"\n{ORDER}\n\r\n  {TRADE}  \r\n" + '{"id": 123456789012345678901234567890}')
    first, second, third = entries_of(path)
    assert first == Entry(2, "order", None, exactly(ORDER))
    assert str(first.data["amount"]) == "0.10000000000000000001"
    assert second == Entry(4, "trade", None, exactly(TRADE))
    assert str(second.data["price"]) == "141.20"
    assert third == Entry(5, "order", None, {"id": 123456789012345678901234567890})


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_its_items_with_their_places(file: Any, indent: int | None) -> None:
    text = json.dumps([json.loads(ORDER), 5, json.loads(TRADE)], indent=indent)
    order, five, trade = read_entries(file("\n " + text))
    assert order == Entry(1, "order", None, exactly(json.dumps(json.loads(ORDER))))
    assert five == Unreadable(2, "not an object")
    assert trade == Entry(3, "trade", None, exactly(TRADE))


def test_one_object_over_several_lines_is_one_entry(file: Any) -> None:
    text = json.dumps({"exchange": "okx", "unified": json.loads(TRADE)}, indent=1)
    assert list(read_entries(file("\n" + text))) == [Entry(2, "trade", "okx", exactly(TRADE))]


def test_one_object_on_one_line_is_one_entry(file: Any) -> None:
    assert [entry.line for entry in read_entries(file(ORDER))] == [1]


def test_a_byte_order_mark_does_no_harm(file: Any) -> None:
    for text in (ORDER, f"[{ORDER}]", json.dumps(json.loads(ORDER), indent=1)):
        (entry,) = entries_of(file(b"\xef\xbb\xbf" + text.encode()))
        assert entry.data["id"] == "A-1"


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n", "[]", '{"exchange": "okx", "unified": []}'])
def test_a_file_without_entries_gives_none(file: Any, text: str) -> None:
    assert list(read_entries(file(text))) == []


def test_a_line_around_several_entries_gives_each_of_them(file: Any) -> None:
    line = {"exchange": "okx", "method": "fetchOrders", "unified": [{"id": 1}, None, {"id": 2}]}
    assert list(read_entries(file(json.dumps(line)))) == [
        Entry(1, "order", "okx", {"id": 1}),
        Unreadable(1, "'unified' is neither an object nor a list of objects"),
        Entry(1, "order", "okx", {"id": 2}),
    ]


def test_the_exchange_is_the_lines_or_the_structures_own(file: Any) -> None:
    lines = [
        '{"exchange": "okx", "unified": {"id": "1"}}',
        '{"exchange": "gate", "id": "1"}',
        '{"exchange": 5}',
    ]
    assert [entry.exchange for entry in entries_of(file("\n".join(lines)))] == ["okx", "gate", None]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"status": "open"}, "order"),
        ({"filled": 0, "order": None}, "order"),
        ({"order": "A-1"}, "trade"),
        ({"takerOrMaker": "maker", "status": None, "remaining": None}, "trade"),
        ({"order": None, "takerOrMaker": None}, "trade"),
        ({"status": None, "id": "A-1"}, "order"),
        ({"lastTradeTimestamp": 5, "order": "A-1"}, "order"),
        ({"id": "A-1", "price": 5}, "order"),
        ({}, "order"),
    ],
)
def test_an_order_is_told_from_a_trade_by_what_it_says(file: Any, data: dict[str, Any], kind: str) -> None:
    assert [entry.kind for entry in entries_of(file(json.dumps(data)))] == [kind]


@pytest.mark.parametrize(
    ("method", "data", "kind"),
    [
        ("fetchMyTrades", {"status": "closed"}, "trade"),
        ("fetch_order_trades", {}, "trade"),
        ("createOrder", {"order": "A-1"}, "order"),
        ("closePosition", {"order": "A-1"}, "trade"),
        (None, {"order": "A-1"}, "trade"),
    ],
)
def test_the_method_decides_first(file: Any, method: str | None, data: dict[str, Any], kind: str) -> None:
    line = json.dumps({"exchange": "okx", "method": method, "unified": data})
    assert [entry.kind for entry in entries_of(file(line))] == [kind]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "A-', "not JSON: Unterminated string starting at column 8"),
        (b"id,symbol,price", "not JSON: Expecting value at column 1"),
        (b"5", "not an object"),
        (b"null", "not an object"),
        (b'[{"id": 1}]', "not an object"),
        (b'{"id": "\xff"}', "not UTF-8 at byte 9"),
        (b'{"unified": null}', "'unified' is neither an object nor a list of objects"),
        (b'{"price": 1e99999999999999999999}', "a number too long to be read"),
        (b'{"price": ' + b"9" * 5000 + b"}", "a number too long to be read"),
        (b'{"a":' * 200_000, "nested too deep"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_the_others_go_on(file: Any, line: bytes, reason: str) -> None:
    good = ORDER.encode()
    before, bad, after = read_entries(file(good + b"\n" + line + b"\n" + good))
    assert isinstance(before, Entry)
    assert bad == Unreadable(2, reason)
    assert isinstance(after, Entry)
    assert after.line == 3


@pytest.mark.parametrize("torn", ['{"id": "A-1", "sym', '{"id": "A-1",', "{"])
def test_a_broken_first_line_does_not_hide_the_others(file: Any, torn: str) -> None:
    bad, good = read_entries(file(f"{torn}\n{ORDER}\n"))
    assert isinstance(bad, Unreadable)
    assert good == Entry(2, "order", None, exactly(ORDER))


@pytest.mark.parametrize("text", ['[{"id": 1},\n {"id": 2}', '{\n "id": 1,\n "price"'])
def test_a_broken_document_is_one_finding_with_its_place(file: Any, text: str) -> None:
    (bad,) = read_entries(file(text))
    assert isinstance(bad, Unreadable)
    assert bad.reason.startswith("not JSON: ")
    assert "line " in bad.reason


def test_a_line_beyond_the_limit_is_skipped_whole(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LINE_BYTES", 200)
    long = json.dumps({"id": "x" * 1000, "text": ORDER})
    path = file("\n".join([ORDER, long, ORDER, long]))
    assert [type(entry) for entry in read_entries(path)] == [Entry, Unreadable, Entry, Unreadable]
    assert [entry.line for entry in read_entries(path)] == [1, 2, 3, 4]


def test_lines_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    keep = os.open(fifo, os.O_RDWR)
    try:
        os.write(keep, f"{ORDER}\n{TRADE}\n".encode())
        entries = read_entries(fifo)
        assert next(entries).line == 1
        assert next(entries).line == 2
        entries.close()  # type: ignore[attr-defined]
    finally:
        os.close(keep)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: path.write_bytes(b"\x7fELF\x00\x00"), "binary"),
        (lambda path: path.write_bytes(ORDER.encode("utf-16")), "binary"),
        (lambda path: path.write_bytes(gzip.compress(ORDER.encode())), "gzip data; unpack it first"),
    ],
)
def test_what_cannot_be_a_backfill_is_a_usage_error(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "entries.jsonl"
    make(path)
    for run in (lambda: list(read_entries(path)), lambda: backfill([path], Audit())):
        with pytest.raises(UsageError, match=message) as caught:
            run()
        assert str(path) in str(caught.value)


def test_a_file_that_may_not_be_read_is_a_fault_of_the_environment(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(ORDER)

    def refuse(self: Path, mode: str) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no mode keeps out
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        list(read_entries(path))


def test_every_readable_entry_is_emitted_and_the_rest_is_said(file: Any) -> None:
    orders = file(f'{ORDER}\nnonsense\n{{"exchange": "gate", "unified": {{"id": ["B-2"], "status": null}}}}\n')
    trades = file(f"[{TRADE}]", "trades.json")
    audit = Audit()
    assert backfill([orders, trades], audit, exchange="okx") == BackfillSummary(
        files=2,
        orders=2,
        trades=1,
        unreadable_total=1,
        unreadable=((orders, 2, "not JSON: Expecting value at column 1"),),
    )
    amount = Decimal("0.10000000000000000001")
    assert audit.records == [
        (
            "order",
            {
                "exchange": "okx",
                "symbol": "SOL/USDT",
                "order_id": "A-1",
                "size": amount,
                "status": "NEW",
                "filled": 0,
                "source": "backfill",
            },
        ),
        ("order", {"exchange": "gate", "order_id": "B-2", "source": "backfill"}),
        (
            "trade",
            {
                "exchange": "okx",
                "symbol": "SOL/USDT",
                "order_id": "A-1",
                "trade_id": "T-1",
                "price": Decimal("141.20"),
                "taker_or_maker": "taker",
                "source": "backfill",
            },
        ),
    ]


def test_the_time_is_that_of_the_last_change(file: Any) -> None:
    audit = Audit()
    backfill([file('{"status": "open", "timestamp": 1709658489123, "lastTradeTimestamp": 1709658490}')], audit)
    ((_, fields),) = audit.records
    assert fields["timestamp"] == "2024-03-05T17:08:10.000Z"
    assert fields["created_at"] == "2024-03-05T17:08:09.123Z"


def test_without_any_exchange_the_loader_is_left_to_say_so(file: Any) -> None:
    audit = Audit()
    backfill([file(ORDER)], audit)
    assert "exchange" not in audit.records[0][1]


def test_only_the_first_twenty_unreadable_lines_are_kept(file: Any) -> None:
    summary = backfill([file("x\n" * 50)], Audit())
    assert summary.unreadable_total == 50
    assert [line for _, line, _ in summary.unreadable] == list(range(1, 21))


def test_nothing_is_emitted_where_a_later_file_is_missing(file: Any, tmp_path: Path) -> None:
    audit = Audit()
    with pytest.raises(UsageError):
        backfill([file(ORDER), tmp_path / "typing_error.jsonl"], audit)
    assert audit.records == []


def test_a_backfill_waits_whenever_a_quarter_of_the_ring_is_used(file: Any) -> None:
    audit = Audit(Ring(), record_bytes=60 * 1024)
    backfill([file(f"{ORDER}\n" * 1000)], audit)
    assert audit.flushes == [(256, 30.0), (512, 30.0), (768, 30.0), (1000, 30.0)]
    assert len(audit.records) == 1000


@pytest.mark.parametrize("ring_bytes", [2**14, 2**15, 2**16, 2**18, 2**20, 3 * 2**20, 2**25])
def test_lines_of_the_greatest_length_do_not_overflow_the_ring(file: Any, ring_bytes: int) -> None:
    audit = Audit(Ring(ring_bytes), record_bytes=min(64 * 1024, ring_bytes // 4))
    backfill([file(f"{ORDER}\n" * 2000)], audit)
    assert len(audit.records) == 2000
    assert audit.flushes


def test_a_ring_with_room_is_never_waited_for(file: Any) -> None:
    audit = Audit(record_bytes=100)
    backfill([file(f"{ORDER}\n" * 2000)], audit)
    assert audit.flushes == []


def test_a_disk_that_takes_nothing_stops_the_backfill_before_a_loss(file: Any) -> None:
    audit = Audit(Ring(1024 * 1024), record_bytes=64 * 1024, flushes_work=False)
    with pytest.raises(EnvironmentFault, match="took nothing for 30 seconds; stopped after 8 records"):
        backfill([file(f"{ORDER}\n" * 100)], audit)
    assert len(audit.records) == 8


def test_a_log_that_takes_nothing_is_not_reported_as_filled(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit()
    monkeypatch.setattr(audit, "order", lambda **fields: 0)
    with pytest.raises(EnvironmentFault, match="closed, or disabled"):
        backfill([file(ORDER)], audit)


def test_the_smallest_real_ring_loses_nothing_and_the_lines_keep_the_digits(file: Any, tmp_path: Path) -> None:
    path = file(f"{ORDER}\n" * 1000)
    with AuditLog(tmp_path / "log", service="test", ring_bytes=16 * 1024) as audit:
        backfill([path], audit, exchange="okx")
        assert audit.flush(timeout=30.0)
        stats = audit.stats()
    assert (stats.emitted, stats.written, stats.lost) == (1000, 1000, 0)
    text = "".join(segment.read_text() for segment in sorted((tmp_path / "log").glob("*.jsonl")))
    assert text.count('"0.10000000000000000001"') == 1000


def test_progress_counts_the_records_emitted_so_far(file: Any) -> None:
    calls: list[int] = []
    backfill([file(f"{ORDER}\n" * 600)], Audit(), progress=calls.append)
    assert calls == [256, 512, 600]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "fee", "unified"]), inner),
    max_leaves=6,
)


@given(st.lists(st.one_of(JSON.map(json.dumps), st.text()), max_size=5))
def test_any_text_is_read_to_its_end(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "entries.jsonl"
    path.write_text("\n".join(lines).replace("\0", ""), "utf-8", errors="replace")
    audit = Audit()
    summary = backfill([path], audit)
    assert len(audit.records) == summary.orders + summary.trades


def shared_file(name: str) -> Path:
    root = os.environ.get("TRADETRAIL_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"no {name}: TRADETRAIL_SHARED_DATA or ../shared/data")
    return path


@pytest.mark.parametrize(
    ("name", "kind", "lines", "exchanges"),
    [("exchange_orders.jsonl", "order", 334, 42), ("exchange_trades.jsonl", "trade", 63, 34)],
)
def test_real_answers_are_told_apart_with_and_without_their_method(
    tmp_path: Path, name: str, kind: str, lines: int, exchanges: int
) -> None:
    path = shared_file(name)
    entries = entries_of(path)
    assert len(entries) == lines
    assert {entry.kind for entry in entries} == {kind}
    assert len({entry.exchange for entry in entries}) == exchanges

    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps(answer) for answer in _answers(path)), "utf-8")
    assert Counter(entry.kind for entry in entries_of(bare)) == {kind: lines}


def _answers(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)["unified"]


def test_all_real_answers_are_emitted() -> None:
    audit = Audit()
    summary = backfill([shared_file("exchange_orders.jsonl"), shared_file("exchange_trades.jsonl")], audit)
    assert (summary.files, summary.orders, summary.trades, summary.unreadable_total) == (2, 334, 63, 0)
    assert Counter(kind for kind, _ in audit.records) == {"order": 334, "trade": 63}
    assert all("exchange" in fields for _, fields in audit.records)
