"""What the loader makes of lines: rows, rejects and ledger, by content."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.segments import Void, control_line
from loader.database import Database
from loader.errors import TerminalError, UsageError
from loader.load import Loader
from loader.settings import LoadSettings
from loader.totals import Totals

from ..contents import all_loaded, assert_same, contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update


async def take(dsn: str, directory: Path, *, finish_dead: bool = True, **settings: Any) -> Totals:
    async with Loader(LoadSettings(directory=directory, dsn=dsn, **settings)) as loader:
        totals = await loader.take(finish_dead=finish_dead)
    made = totals.orders + totals.trades + totals.order_updates + totals.events
    assert totals.records == made + totals.rejected + totals.duplicates
    return totals


async def rows(dsn: str, sql: str, *args: object) -> list[dict[str, Any]]:
    async with await Database.connect(dsn) as database:
        return await database.fetch(sql, *args)


async def test_what_a_bot_logs_stands_in_the_tables(dsn: str, tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", service="fox-bot") as audit:
        audit.order(
            position_id=55,
            exchange="bybit",
            symbol="1000000PEIPEI/USDT:USDT",
            order_id="a1",
            type="MARKET",
            side="sell",
            size=Decimal("0.123456789012345678"),
            price=2.1118,
            status="FILLED",
            filled=94.7,
            remaining=0,
            fee={"cost": Decimal("0.000000000000000001"), "currency": "BNB"},
        )
        audit.trade(
            signal_id=4711,
            position_id=55,
            exchange="bybit",
            symbol="MNTUSDT",
            side="sell",
            quantity=94.7,
            price=Decimal("2.1118"),
            executed_qty=94.7,
            order_id="a1",
            trade_id="t1",
            executed_at=1700000000000,
            contract_size="0.01",
            reason="take profit",
            estimated=True,
        )
        audit.update_order(exchange="bybit", symbol="MNTUSDT", order_id="unknown", status="NEW")
        audit.event("position.closed", severity="WARN", position_id="pending", reason="take profit")
        stream = audit.stats().stream

    totals = await take(dsn, tmp_path / "audit")

    assert (totals.orders, totals.trades, totals.order_updates, totals.events) == (1, 1, 1, 1)
    assert (totals.rejected, totals.repaired, totals.duplicates, totals.lost) == (0, 0, 0, 0)
    (made,) = await rows(dsn, "SELECT * FROM monitoring.orders")
    assert made["symbol"] == "1000000PEIPEI/USDT:USDT"
    assert made["position_id"] == "55"
    assert made["size"] == Decimal("0.123456789012345678")
    assert made["fee"] == Decimal("0.000000000000000001")
    assert made["fee_currency"] == "BNB"
    assert (made["stream"], made["seq"]) == (stream, 1)
    assert made["created_at"] == made["updated_at"] == made["recorded_at"]
    (fill,) = await rows(dsn, "SELECT * FROM monitoring.trades")
    assert fill["signal_id"] == 4711
    assert fill["executed_at"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert fill["fee"] is None
    assert (fill["contract_size"], fill["reason"], fill["estimated"]) == (Decimal("0.01"), "take profit", True)
    (event,) = await rows(dsn, "SELECT * FROM monitoring.events")
    assert event["event_type"] == "position.closed"
    assert event["event_data"] == {"position_id": "pending", "reason": "take profit"}
    assert event["severity"] == "WARN"


async def test_loading_again_changes_nothing_even_without_the_ledger(dsn: str, tmp_path: Path) -> None:
    lines = [line(n, "order.created", order(order_id=f"o{n}")) for n in range(1, 40)]
    lines += [line(n, "trade.executed", trade(trade_id=f"t{n % 25}", symbol=f"S{n % 25}")) for n in range(40, 90)]
    lines += [line(n, "order.updated", update(order_id=f"o{n % 50}", status="CANCELED")) for n in range(90, 120)]
    lines += [b"not json\n", line(121, "order.created", order(symbol=None)), line(122, "ping", {"a": 1})]
    segment(tmp_path, lines)
    first = await take(dsn, tmp_path)
    before = await contents(dsn)

    again = await take(dsn, tmp_path)
    assert (again.records, again.bytes, again.segments) == (0, 0, 0)
    assert await contents(dsn) == before

    async with await Database.connect(dsn) as database:
        await database.execute("TRUNCATE monitoring.audit_segments")
    replayed = await take(dsn, tmp_path)
    assert replayed.records == first.records
    assert (replayed.orders, replayed.trades, replayed.order_updates, replayed.events) == (0, 0, 0, 0)
    assert await contents(dsn) == before


async def test_each_bad_line_is_kept_whole_with_its_place_and_the_good_ones_load(dsn: str, tmp_path: Path) -> None:
    bad = {
        b"\n": "empty_line",
        b"not json\n": "not_json",
        b'["an", "array"]\n': "not_json",
        b'{"stream":"x"\xff}\n': "not_utf8",
        b'{"a":"\x00"}\n': "not_json",
        b'{"a":"\x01"}\n': "not_json",
        line(5, "x", {})[:-3] + b"\n": "not_json",
        line(6, "x", {"a": 1}).replace(b'"a":1', b'"a":NaN'): "not_strict_json",
        line(7, "x", {"a": 1}).replace(b'"a":1', b'"a":1,'): "not_strict_json",
        line(8, "x", {"a": "NUL \0"}): "nul_in_text",
        line(9, "x", {"deep": 1}).replace(b":1}", b":" + b"[" * 900 + b"]" * 900 + b"}"): "not_strict_json",
        line(10, "order.created", order(symbol=None)): "field_missing",
        line(11, "order.created", order(size="much")): "number_unreadable",
        line(12, "order.created", order(created_at="yesterday")): "time_unreadable",
        line(13, "order.updated", update(order_id=None)): "order_not_named",
        line(14, "x", {}, stream=OTHER_STREAM): "stream_of_another_file",
        line(15, "x", {}).replace(b'"attributes":{}', b'"attributes":[]'): "attributes_missing",
        line(16, "", {}): "event_name_missing",
        line(17, "x", {}, timestamp="soon"): "timestamp_unreadable",
        line(18, "x", {}).replace(b'"seq":18', b'"seq":"18a"'): "seq_unreadable",
        line(19, "x", {"long": "y" * 2_000_000}): "line_too_long",
    }
    good = [line(100 + n, "ping", {"n": n}) for n in range(len(bad))]
    lines = [text for pair in zip(good, bad, strict=True) for text in pair]
    path = segment(tmp_path, lines)

    totals = await take(dsn, tmp_path, batch_bytes=64 * 1024)

    assert totals.events == len(good)
    assert totals.rejected == len(bad)
    data = path.read_bytes()
    kept = await rows(dsn, "SELECT * FROM monitoring.audit_rejects ORDER BY byte_offset")
    assert [row["reasons"][0].split(":")[0] for row in kept] == list(bad.values())
    for row, text in zip(kept, bad, strict=True):
        raw = row["raw_bytes"] if row["raw_bytes"] is not None else row["raw"].encode()
        assert raw + b"\n" == text
        assert data[row["byte_offset"] :].startswith(text)
        assert (row["stream"], row["segment"], row["severity"]) == (STREAM, 1, "rejected")
    readable = {row["reasons"][0].split(":")[0]: row["seq"] for row in kept if not row["seq_inferred"]}
    assert readable["not_strict_json"] == 9
    assert readable["timestamp_unreadable"] == 17


async def test_repairs_load_the_row_and_keep_the_original(dsn: str, tmp_path: Path) -> None:
    segment(
        tmp_path,
        [
            line(1, "trade.executed", trade(signal_id="unknown", quantity="NaN", average_price="-Infinity")),
            line(2, "trade.executed", trade(price=3)),
            line(3, "order.created", order(status="held", side="short")),
            line(4, "trade.executed", trade(trade_id="t4", estimated="perhaps")),
        ],
    )
    totals = await take(dsn, tmp_path)
    assert (totals.trades, totals.orders, totals.rejected, totals.repaired, totals.duplicates) == (2, 1, 0, 4, 1)
    fill, guess = await rows(dsn, "SELECT * FROM monitoring.trades ORDER BY seq")
    assert guess["estimated"] is None
    assert (fill["signal_id"], fill["quantity"], fill["average_price"]) == (None, None, None)
    assert fill["price"] == Decimal("2.1118")
    (made,) = await rows(dsn, "SELECT * FROM monitoring.orders")
    assert (made["status"], made["side"]) == ("held", "short")
    kept = await rows(dsn, "SELECT seq, severity, reasons, raw FROM monitoring.audit_rejects ORDER BY seq")
    assert [row["severity"] for row in kept] == ["repaired"] * 4
    assert kept[3]["reasons"] == ["boolean_unreadable: estimated was neither true nor false, loaded as NULL: perhaps"]
    assert sorted(reason.split(":")[0] for reason in kept[0]["reasons"]) == [
        "integer_unreadable",
        "number_not_finite",
        "number_not_finite",
    ]
    assert kept[1]["reasons"][0].startswith("repeated_trade:")
    assert '"signal_id":"unknown"' in kept[0]["raw"]


async def test_the_existing_bots_columns_bound_what_is_loaded(migrated_existing_dsn: str, tmp_path: Path) -> None:
    dsn = migrated_existing_dsn
    old = {table: await rows(dsn, f"SELECT * FROM monitoring.{table} ORDER BY id") for table in ("orders", "trades")}
    segment(
        tmp_path,
        [
            line(1, "order.created", order(order_id="fits", size="123456789012.12345678")),
            line(2, "order.created", order(order_id="long", symbol="1000000PEIPEI/USDT:USDT")),
            line(3, "order.created", order(order_id="round", size="0.123456785", price="1e-9")),
            line(4, "order.created", order(order_id="large", size="1234567890123")),
            line(5, "order.created", order(order_id="edge", size="999999999999.999999995")),
            line(6, "trade.executed", trade(signal_id=99999999999, fee={"cost": "0.1", "currency": "LONGCURRENCY"})),
            line(7, "trade.executed", trade(signal_id=7, trade_id="t7")),
            line(8, "position.checked", {"position_id": "pending"}),
            line(9, "position.checked", {"position_id": 8}),
        ],
    )
    totals = await take(dsn, tmp_path)
    assert (totals.orders, totals.trades, totals.events, totals.rejected, totals.repaired) == (2, 1, 2, 4, 1)
    loaded = await rows(dsn, "SELECT * FROM monitoring.orders WHERE stream IS NOT NULL ORDER BY seq")
    assert [(row["order_id"], row["size"], row["price"]) for row in loaded] == [
        ("fits", Decimal("123456789012.12345678"), Decimal("2.11180000")),
        ("round", Decimal("0.12345679"), Decimal("0.00000000")),
    ]
    events = await rows(
        dsn, "SELECT position_id, event_data FROM monitoring.events WHERE stream IS NOT NULL ORDER BY seq"
    )
    assert [row["position_id"] for row in events] == [None, 8]
    assert events[0]["event_data"] == {"position_id": "pending"}
    notes = await rows(dsn, "SELECT seq, severity, reasons FROM monitoring.audit_rejects ORDER BY seq")
    assert [(row["seq"], row["severity"], row["reasons"][0].split(":")[0]) for row in notes] == [
        (2, "rejected", "text_too_long"),
        (3, "repaired", "number_rounded"),
        (4, "rejected", "number_too_large"),
        (5, "rejected", "number_too_large"),
        (6, "rejected", "text_too_long"),
    ]
    assert "23" not in notes[0]["reasons"][0]
    assert "20" in notes[0]["reasons"][0]
    for table, before in old.items():
        now = await rows(dsn, f"SELECT * FROM monitoring.{table} WHERE stream IS NULL ORDER BY id")
        assert now == before


async def test_an_order_that_the_bot_wrote_itself_stays_as_it_is_though_the_log_changes_one_of_its_name(
    migrated_existing_dsn: str, tmp_path: Path
) -> None:
    dsn = migrated_existing_dsn
    async with await Database.connect(dsn) as database:
        await database.execute(
            "INSERT INTO monitoring.orders (exchange, symbol, order_id, client_order_id, type, side, status) "
            "VALUES ('bybit', 'MNTUSDT', 'o1', 'c1', 'LIMIT', 'buy', 'NEW')"
        )
    old = await rows(dsn, "SELECT * FROM monitoring.orders ORDER BY id")
    segment(
        tmp_path,
        [
            line(1, "order.updated", update(status="FILLED")),
            line(2, "order.updated", update(order_id=None, client_order_id="c1", status="CANCELED")),
        ],
    )
    totals = await take(dsn, tmp_path)
    assert (totals.order_updates, totals.orders) == (2, 0)
    assert await rows(dsn, "SELECT * FROM monitoring.orders ORDER BY id") == old


async def test_a_row_that_only_postgresql_refuses_is_one_reject(dsn: str, tmp_path: Path) -> None:
    async with await Database.connect(dsn) as database:
        await database.execute("ALTER TABLE monitoring.trades ADD CONSTRAINT positive CHECK (price > 0)")
    segment(
        tmp_path,
        [
            line(n, "trade.executed", trade(trade_id=f"t{n}", price=n % 7 - 1, note='quote " and\nline'))
            for n in range(1, 22)
        ],
    )
    totals = await take(dsn, tmp_path)
    assert (totals.trades, totals.rejected) == (15, 6)
    kept = await rows(dsn, "SELECT seq, reasons FROM monitoring.audit_rejects ORDER BY seq")
    assert [row["seq"] for row in kept] == [n for n in range(1, 22) if n % 7 - 1 <= 0]
    assert all(row["reasons"][0].startswith("refused_by_database:") for row in kept)


async def test_fees_of_every_shape(dsn: str, tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [
        {"fee": 0.05, "fee_currency": "USDT"},
        {"fee": "-0.000000000000000001", "fee_currency": "USDT"},
        {"fee": {"cost": 0.1, "currency": "BNB"}},
        {"fee": {"cost": None, "currency": None}},
        {"fee": {}},
        {"fee": [{"cost": 1, "currency": "BNB"}, {"cost": 2, "currency": "USDT"}]},
        {"fees": [{"cost": "3.50", "currency": "BNB"}]},
        {"fees": []},
        {},
    ]
    segment(
        tmp_path, [line(n, "trade.executed", trade(trade_id=f"t{n}", **shape)) for n, shape in enumerate(shapes, 1)]
    )
    assert (await take(dsn, tmp_path)).trades == len(shapes)
    found = await rows(dsn, "SELECT fee, fee_currency, fees FROM monitoring.trades ORDER BY seq")
    assert [(row["fee"], row["fee_currency"]) for row in found] == [
        (Decimal("0.05"), "USDT"),
        (Decimal("-1E-18"), "USDT"),
        (Decimal("0.1"), "BNB"),
        (None, None),
        (None, None),
        (None, None),
        (Decimal("3.50"), "BNB"),
        (None, None),
        (None, None),
    ]
    assert found[5]["fees"] == [{"cost": 1, "currency": "BNB"}, {"cost": 2, "currency": "USDT"}]
    assert [row["fees"] is not None for row in found] == [False] * 5 + [True, True, False, False]


async def test_texts_arrive_as_they_are(dsn: str, tmp_path: Path) -> None:
    texts = [
        '"',
        '""',
        "\\",
        "\\N",
        "\\.",
        "a,b",
        "line\nfeed\r\n",
        "'",
        "tab\t",
        "\u20ac\U0001f98a",
        " ",
        "NULL",
        "\x7f",
        "{}",
    ]
    segment(
        tmp_path,
        [line(n, "order.created", order(order_id=text, client_order_id=text)) for n, text in enumerate(texts, 1)],
    )
    assert (await take(dsn, tmp_path)).orders == len(texts)
    found = await rows(dsn, "SELECT order_id, client_order_id FROM monitoring.orders ORDER BY seq")
    assert [row["order_id"] for row in found] == texts
    assert [row["client_order_id"] for row in found] == texts


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-11-22T13:10:56.015378Z", "2026-11-22T13:10:56.015378+00:00"),
        ("2026-11-22T13:10:56+02:00", "2026-11-22T11:10:56+00:00"),
        ("2026-11-22 13:10:56", "2026-11-22T13:10:56+00:00"),
        (1700000000, "2023-11-14T22:13:20+00:00"),
        (1700000000.25, "2023-11-14T22:13:20.250000+00:00"),
        (1700000000123, "2023-11-14T22:13:20.123000+00:00"),
        (1700000000123456, "2023-11-14T22:13:20.123456+00:00"),
        (1700000000123456789, "2023-11-14T22:13:20.123456+00:00"),
        ("1700000000123", "2023-11-14T22:13:20.123000+00:00"),
    ],
)
async def test_times_in_any_unit(dsn: str, tmp_path: Path, given: object, meant: str) -> None:
    segment(tmp_path, [line(1, "trade.executed", trade(executed_at=given))])
    await take(dsn, tmp_path)
    (fill,) = await rows(dsn, "SELECT executed_at FROM monitoring.trades")
    assert fill["executed_at"] == datetime.fromisoformat(meant)


async def test_a_live_tail_is_taken_line_by_line_and_a_torn_line_waits(dsn: str, tmp_path: Path) -> None:
    """L16: until its end is there."""
    texts = [line(n, "ping", {"n": n}) for n in range(1, 6)]
    path = segment(tmp_path, texts[:2], closed=False, tail=texts[2][:20])
    async with Loader(LoadSettings(directory=tmp_path, dsn=dsn)) as loader:
        # A living writer: nobody may finish its file.
        import fcntl

        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert (await loader.take()).events == 2
            assert (await loader.take()).records == 0
            file.write(texts[2][20:])
            file.flush()
            assert (await loader.take()).events == 1
            file.write(texts[3] + texts[4])
            file.flush()
            assert (await loader.take()).events == 2
    found = await rows(dsn, "SELECT seq, event_data FROM monitoring.events ORDER BY seq")
    assert [(row["seq"], row["event_data"]["n"]) for row in found] == [(n, n) for n in range(1, 6)]
    (ledger,) = await rows(dsn, "SELECT * FROM monitoring.audit_segments")
    assert (ledger["bytes"], ledger["records"], ledger["first_seq"], ledger["last_seq"]) == (
        path.stat().st_size,
        5,
        1,
        5,
    )
    assert ledger["closed_at"] is None


async def test_the_ledger_tells_the_whole_segment(dsn: str, tmp_path: Path) -> None:
    lost = control_line(
        STREAM, "audit.lost", {"count": 3, "ranges": [{"first": 3, "last": 5, "reason": "ring full"}]}, "ERROR"
    )
    path = segment(tmp_path, [line(1, "ping", {}), line(2, "ping", {}), lost, line(6, "order.created", {})])
    totals = await take(dsn, tmp_path)
    assert (totals.records, totals.lost, totals.rejected) == (3, 3, 1)
    (ledger,) = await rows(dsn, "SELECT * FROM monitoring.audit_segments")
    data = path.read_bytes()
    body = data[: data[:-1].rfind(b"\n") + 1]
    assert ledger["sha256"] == hashlib.sha256(body).hexdigest()
    assert (ledger["records"], ledger["rejected"], ledger["lost"], ledger["bytes"]) == (3, 1, 3, len(data))
    assert ledger["losses"] == [{"first": 3, "last": 5, "reason": "ring full"}]
    assert (ledger["first_seq"], ledger["last_seq"], ledger["file"]) == (1, 6, path.name)
    assert ledger["closed_at"] is not None
    assert ledger["recovered"] is False


async def test_bytes_made_void_by_a_failed_sync_are_not_loaded(dsn: str, tmp_path: Path) -> None:
    """L21: what was written anew is there once."""
    kept, doubtful = line(1, "ping", {"n": 1}), b'{"garbage' + b"\0" * 60 + b"\n"
    first = segment(tmp_path, [kept, doubtful], closed=False)
    offset = first.read_bytes().index(doubtful)
    segment(tmp_path, [line(2, "ping", {"n": 2})], number=2, replaces=(Void(1, offset),))
    totals = await take(dsn, tmp_path)
    assert (totals.events, totals.rejected) == (2, 0)
    ledger = await rows(dsn, "SELECT segment, bytes, void_from FROM monitoring.audit_segments ORDER BY segment")
    assert [(row["segment"], row["void_from"]) for row in ledger] == [(1, offset), (2, None)]
    assert ledger[0]["bytes"] == offset


async def test_what_was_loaded_before_it_was_void_is_told_again_and_stands_once(
    dsn: str, empty_dsn: str, tmp_path: Path
) -> None:
    """L21: as after a bot that was killed within a sync while a loader followed it closely."""
    kinds = [
        lambda n: line(n, "order.created", order(order_id=f"o{n % 7}", status="NEW", price=n)),
        lambda n: line(n, "order.updated", update(order_id=f"o{n % 7}", status="CANCELED", filled=n)),
        lambda n: line(n, "trade.executed", trade(trade_id=f"t{n // 9}", signal_id="none")),
        lambda n: line(n, "order.created", order(order_id=None, symbol=None)),
        lambda n: line(n, "order.created", order(order_id=f"r{n}", size="NaN")),
    ]
    lines = [kinds[n % 5](n) for n in range(1, 41)]
    first = segment(tmp_path, lines[:20])
    segment(tmp_path, lines[20:35], number=2, closed=False)
    assert (await take(dsn, tmp_path, finish_dead=False)).records == 35
    offset = first.read_bytes().index(lines[12])
    segment(tmp_path, lines[12:], number=3, replaces=(Void(1, offset), Void(2, 0)))
    again = await take(dsn, tmp_path)
    assert (again.records, again.duplicates) == (28, 18)
    assert await all_loaded(dsn, tmp_path) == 40
    await take(empty_dsn, tmp_path)
    assert await all_loaded(empty_dsn, tmp_path) == 40
    assert_same(await contents(dsn, tmp_path), await contents(empty_dsn, tmp_path))


async def test_void_bytes_are_not_loaded_where_an_archive_removed_a_segment_between(dsn: str, tmp_path: Path) -> None:
    """What says that they are void lies behind the gap, and is loaded already; each look begins anew."""
    lines = [line(n, "ping", {}) for n in range(1, 7)]
    segment(tmp_path, lines[:1], number=1, closed=False)
    segment(tmp_path, lines[:2], number=2, replaces=[Void(1, 0)])
    whole = segment(tmp_path, lines[2:4], number=3)
    segment(tmp_path, lines[4:5], number=4, closed=False)
    segment(tmp_path, lines[4:], number=5, replaces=[Void(4, 0)])
    assert (await take(dsn, tmp_path)).events == 6
    whole.unlink()
    totals = await take(dsn, tmp_path)
    assert (totals.records, totals.problems) == (0, {})


async def test_a_segment_that_the_disk_lost_and_a_later_one_replaces_is_no_problem(dsn: str, tmp_path: Path) -> None:
    first = segment(tmp_path, [line(1, "ping", {"n": 1})], closed=False)
    size = first.stat().st_size
    second = segment(tmp_path, [line(2, "ping", {})], number=2, closed=False)
    second.write_bytes(b"\0" * 500 + b"\n" + b"\0" * 100)
    segment(tmp_path, [line(2, "ping", {"n": 2})], number=3, replaces=(Void(1, size), Void(2, 0)))
    totals = await take(dsn, tmp_path)
    assert (totals.events, totals.rejected, totals.problems) == (2, 0, {})


async def test_a_seq_that_cannot_be_read_is_inferred_from_its_neighbours(dsn: str, tmp_path: Path) -> None:
    segment(
        tmp_path,
        [
            line(1, "ping", {}),
            b"torn\n",
            b"torn too\n",
            line(4, "ping", {}),
            b"unclear\n",
            line(9, "ping", {}),
            b"last\n",
        ],
    )
    await take(dsn, tmp_path)
    found = await rows(dsn, "SELECT raw, seq, seq_inferred FROM monitoring.audit_rejects ORDER BY byte_offset")
    assert [(row["raw"], row["seq"], row["seq_inferred"]) for row in found] == [
        ("torn", 2, True),
        ("torn too", 3, True),
        ("unclear", None, False),
        ("last", 10, True),
    ]


async def test_odd_files_are_named_and_the_others_load(dsn: str, tmp_path: Path) -> None:
    """X3: a later version among them."""
    good = segment(tmp_path, [line(1, "ping", {})])
    names = [good.name.replace(".000001", f".{n:06d}") for n in range(2, 9)]
    (tmp_path / names[0]).mkdir()
    (tmp_path / names[1]).write_bytes(b"\x00\x01\x02 binary\n" * 10)
    (tmp_path / names[2]).write_bytes(b"")
    (tmp_path / names[3]).symlink_to(good)
    (tmp_path / names[4]).write_bytes(good.read_bytes())
    (tmp_path / names[5]).write_bytes(b'{"stream":"' + STREAM.encode())
    (tmp_path / names[6]).write_bytes(good.read_bytes().replace(b'"schema_version":1', b'"schema_version":2', 1))
    (tmp_path / "notes.txt").write_text("not a segment")
    totals = await take(dsn, tmp_path)
    assert totals.events == 1
    said = totals.problems
    assert "no regular file" in said[names[0]]
    assert "no segment header" in said[names[1]]
    assert names[2] not in said
    assert "no regular file" in said[names[3]]
    assert "another segment" in said[names[4]]
    assert names[5] not in said
    assert "upgrade" in said[names[6]]


async def test_a_segment_that_shrank_is_said_and_the_others_load(dsn: str, tmp_path: Path) -> None:
    path = segment(tmp_path, [line(1, "ping", {}), line(2, "ping", {})])
    await take(dsn, tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    segment(tmp_path, [line(1, "ping", {}, stream=OTHER_STREAM)], stream=OTHER_STREAM)
    totals = await take(dsn, tmp_path)
    assert totals.events == 1
    assert "has shrunk" in totals.problems[path.name]


async def test_many_small_segments_are_few_batches_and_all_there(dsn: str, tmp_path: Path) -> None:
    streams = [f"0199e3c6a7b27c0e8d41c2f1a0b3{n:04x}" for n in range(60)]
    for stream in streams:
        for number in (1, 2, 3):
            segment(
                tmp_path,
                [line(number * 10 + n, "ping", {"s": stream}, stream=stream) for n in range(5)],
                stream=stream,
                number=number,
            )
    totals = await take(dsn, tmp_path)
    assert (totals.events, totals.segments) == (900, 180)
    found = await rows(dsn, "SELECT stream, array_agg(seq ORDER BY seq) AS seqs FROM monitoring.events GROUP BY stream")
    assert {row["stream"] for row in found} == set(streams)
    assert all(row["seqs"] == [n * 10 + k for n in (1, 2, 3) for k in range(5)] for row in found)


async def test_batches_of_any_size_give_the_same_tables(dsn: str, tmp_path: Path) -> None:
    kinds = [
        lambda n: line(n, "order.created", order(order_id=f"o{n % 17}", status="NEW", price=n)),
        lambda n: line(
            n, "order.updated", update(order_id=f"o{n % 23}", status="FILLED" if n % 5 == 0 else None, filled=n)
        ),
        lambda n: line(n, "trade.executed", trade(trade_id=f"t{n % 40}")),
        lambda n: line(n, "ping", {"n": n, "text": "x" * (n % 300)}),
        lambda n: b"broken\n",
    ]
    lines = [kinds[n % 5](n) for n in range(1, 400)]
    for number in range(4):
        segment(tmp_path, lines[number * 100 : (number + 1) * 100], number=number + 1)
    await take(dsn, tmp_path)
    whole = await contents(dsn)
    async with await Database.connect(dsn) as database:
        await database.execute(
            "TRUNCATE monitoring.orders, monitoring.trades, monitoring.order_updates, monitoring.events, "
            "monitoring.audit_rejects, monitoring.audit_segments"
        )
    await take(dsn, tmp_path, batch_bytes=700)
    assert await contents(dsn) == whole


async def test_a_missing_directory_and_a_database_without_migrations(existing_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        Loader(LoadSettings(directory=tmp_path / "nowhere", dsn=existing_dsn))
    segment(tmp_path, [line(1, "ping", {})])
    with pytest.raises(TerminalError, match="tradetrail migrate"):
        await take(existing_dsn, tmp_path)


async def test_an_empty_database_gets_its_tables(empty_dsn: str, tmp_path: Path) -> None:
    segment(tmp_path, [line(1, "ping", {})])
    assert (await take(empty_dsn, tmp_path)).events == 1


def _of_each(first: int, many: int) -> list[bytes]:
    """So many trades, then events, then orders."""
    trades = [line(n, "trade.executed", trade(trade_id=f"t{n}")) for n in range(first, first + many)]
    events = [line(n, "ping", {"n": n}) for n in range(first + many, first + 2 * many)]
    last = range(first + 2 * many, first + 3 * many)
    return trades + events + [line(n, "order.created", order(order_id=f"o{n}")) for n in last]


_TABLES = ("orders", "order_updates", "trades", "events", "audit_rejects")


async def _set_back(dsn: str, *tables: str) -> None:
    for table in tables:
        await rows(dsn, f"SELECT setval(pg_get_serial_sequence('monitoring.{table}', 'id'), 1)")


async def _seqs(dsn: str, table: str) -> list[int]:
    return [row["seq"] for row in await rows(dsn, f"SELECT seq FROM monitoring.{table} ORDER BY seq")]


@pytest.mark.parametrize("behind", [*_TABLES, "all"])
async def test_ids_that_a_crash_or_a_restore_left_behind_keep_no_record_out(
    dsn: str, tmp_path: Path, behind: str
) -> None:
    """A row whose id is taken is no repeat of another: it gets a free one."""
    changes = [line(n, "order.updated", update(order_id=f"o{n}")) for n in range(61, 81)]
    broken = [line(n, "trade.executed", trade(price="dear")) for n in range(81, 101)]
    segment(tmp_path, [*_of_each(1, 20), *changes, *broken])
    assert (await take(dsn, tmp_path)).duplicates == 0
    await _set_back(dsn, *(_TABLES if behind == "all" else [behind]))
    told_again = [
        line(101, "trade.executed", trade(trade_id="t1")),
        line(102, "order.created", order(order_id="o41", status="NEW")),
    ]
    changes = [
        line(n, "order.updated", fields)
        for n, fields in enumerate(
            (update(order_id="o42", status="CANCELED"), update(order_id="o43", filled=1), update(order_id="o103")), 120
        )
    ]
    broken = [line(130, "trade.executed", trade(price="dear"))]
    segment(tmp_path, [*told_again, *_of_each(103, 3), *changes, *broken], number=2)
    totals = await take(dsn, tmp_path)
    assert (totals.trades, totals.events, totals.orders, totals.order_updates) == (3, 3, 3, 4)
    assert (totals.duplicates, totals.rejected) == (1, 1)
    assert totals.reasons[("repair", "repeated_trade")] == 1
    assert await _seqs(dsn, "trades") == [*range(1, 21), *range(103, 106)]
    assert await _seqs(dsn, "events") == [*range(21, 41), *range(106, 109)]
    assert await _seqs(dsn, "orders") == [*range(41, 61), *range(109, 112)]
    assert await _seqs(dsn, "order_updates") == [41, 42, 43, *range(61, 81), 102, 120, 121, 122]
    assert await _seqs(dsn, "audit_rejects") == [*range(81, 102), 130]
    found = await rows(
        dsn, "SELECT seq, status, filled, type FROM monitoring.orders WHERE seq IN (42, 43) ORDER BY seq"
    )
    assert found == [
        {"seq": 42, "status": "CANCELED", "filled": None, "type": "MARKET"},
        {"seq": 43, "status": "FILLED", "filled": 1, "type": "MARKET"},
    ]


async def test_an_orders_row_is_folded_from_its_own_values_though_ids_are_behind(dsn: str, tmp_path: Path) -> None:
    """The change came first; what the order said itself needs an id in ``order_updates`` when it comes."""
    changes = [line(n, "order.updated", update(order_id=f"o{n}", filled=1)) for n in range(1, 21)]
    segment(tmp_path, changes)
    await take(dsn, tmp_path)
    await _set_back(dsn, "order_updates")
    segment(tmp_path, [line(21, "order.created", order(order_id="o1", status="NEW"))], number=2)
    assert (await take(dsn, tmp_path)).orders == 1
    found = await rows(dsn, "SELECT seq, type, side, size, status, filled FROM monitoring.orders")
    assert [{**row, "size": float(row["size"])} for row in found] == [
        {"seq": 21, "type": "MARKET", "side": "sell", "size": 94.7, "status": "NEW", "filled": 1}
    ]
    assert await _seqs(dsn, "order_updates") == list(range(1, 22))


async def test_ids_are_moved_past_gaps_and_not_past_one_far_ahead(dsn: str, tmp_path: Path) -> None:
    """A row with an id that nothing will ever reach uses up no more ids than it has to."""
    segment(tmp_path, _of_each(1, 20))
    await take(dsn, tmp_path)
    await rows(dsn, "UPDATE monitoring.trades SET id = 1000 * id")
    await rows(dsn, "UPDATE monitoring.events SET id = 9223372036854775000 WHERE seq = 21")
    await _set_back(dsn, "trades", "events")
    segment(tmp_path, _of_each(101, 3), number=2)
    assert (await take(dsn, tmp_path)).duplicates == 0
    assert await _seqs(dsn, "trades") == [*range(1, 21), *range(101, 104)]
    assert await _seqs(dsn, "events") == [*range(21, 41), *range(104, 107)]
    assert (await rows(dsn, "SELECT max(id) < 1000 AS ok FROM monitoring.events WHERE seq > 21"))[0]["ok"]


@pytest.mark.parametrize("table", ["trades", "events", "orders", "order_updates"])
async def test_what_a_unique_constraint_of_the_bots_keeps_out_is_rejected_and_all_else_loaded(
    dsn: str, tmp_path: Path, table: str
) -> None:
    """Ours are the only ones whose conflict says that a record is there already; it can be tried again without it."""
    await rows(dsn, f"CREATE UNIQUE INDEX only_one ON monitoring.{table} (exchange)")
    changes = [line(n, "order.updated", update(order_id=f"x{n}")) for n in (10, 11, 12)]
    lines = [line(n, "ping", {"exchange": "bybit"}) for n in (20, 21)]
    segment(tmp_path, [*_of_each(1, 3), *changes, *lines])
    totals = await take(dsn, tmp_path)
    refused = {"trades": 2, "events": 1, "orders": 2, "order_updates": 2}[table]
    assert (totals.duplicates, totals.rejected) == (0, refused)
    assert totals.reasons == {("reject", "refused_by_database"): refused}
    reasons = await rows(dsn, "SELECT DISTINCT array_to_string(reasons, ' ') AS said FROM monitoring.audit_rejects")
    assert ["only_one" in row["said"] for row in reasons] == [True]
    assert totals.trades + totals.events + totals.orders + totals.order_updates == 14 - refused
