"""Rejected lines tried again: taken as a load would have taken them, once, whoever is at work beside; and mended."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from emitter.segments import Void, control_line
from loader.database import Database
from loader.load import Loader
from loader.rejects import rejects
from loader.rejects.rejects import Asked
from loader.rejects.retry import Retry
from loader.settings import LoadSettings
from loader.statements import sql_dir
from loader.totals import Totals

from ..command import answer, one_line, tradetrail
from ..contents import TABLES, contents
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster
from ..trail import mode
from .test_load import rows, take

REJECTED = "SELECT * FROM monitoring.audit_rejects ORDER BY stream, segment, byte_offset"
MADE = tuple(table for table in TABLES if table != "audit_rejects")


async def retry(dsn: str, **asked: Any) -> Totals:
    async with Retry(dsn) as tried:
        return await tried.take(Asked(severity="rejected", **asked))


def history(stream: str, count: int) -> Iterator[bytes]:
    """Orders with several records each, fills, events, and lines that need a repair."""
    for n in range(1, count + 1):
        key = n % (count // 8)
        if n % 6 in (0, 1):
            fields = order(
                order_id=f"o{key}",
                client_order_id=f"c{key}",
                status="NEW",
                price=n,
                type="held" if n % 7 == 0 else "LIMIT",
            )
            yield line(n, "order.created", fields, stream=stream)
        elif n % 6 == 2:
            named = {"order_id": None, "client_order_id": f"c{key}"} if n % 4 else {"order_id": f"o{key}"}
            status = "CANCELED" if n % 5 == 0 else "NEW" if n % 5 == 1 else None
            yield line(n, "order.updated", update(**named, status=status, filled=n), stream=stream)
        elif n % 6 == 3:
            yield line(n, "ping", {"n": n, "text": "x" * n}, stream=stream)
        else:
            fields = trade(
                trade_id=f"{stream}{n}", quantity="NaN" if n % 5 == 0 else n, fee={"cost": n, "currency": "BNB"}
            )
            yield line(n, "trade.executed", fields, stream=stream)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for stream in (STREAM, OTHER_STREAM):
        lines = list(history(stream, 400))
        for number in range(4):
            segment(tmp_path / "audit", lines[number * 100 : (number + 1) * 100], stream=stream, number=number + 1)
    return tmp_path / "audit"


@pytest.fixture
def picky(tmp_path: Path) -> Path:
    """A rule that rejects two records of five, whatever they are."""
    path = tmp_path / "picky.sql"
    path.write_text(
        "-- rule: picky\n-- for: record\n-- severity: reject\n-- says: not this one\nseq_number % 5 IN (0, 3)\n"
    )
    return path


@pytest.fixture
def undisturbed(cluster: Cluster, directory: Path) -> dict[str, list[str]]:
    """What a load without that rule makes of it."""
    with cluster.database(cluster.template(existing=False, migrated=True)) as dsn:
        totals = asyncio.run(take(dsn, directory))
        assert (totals.records, totals.rejected) == (800, 0)
        assert totals.repaired > 50
        return asyncio.run(contents(dsn))


async def assert_as_loaded(dsn: str, wanted: dict[str, list[str]]) -> None:
    """Tables and ledger equal those of a load that rejected nothing; each reject is marked, its line unchanged."""
    found = await contents(dsn)
    for table in MADE:
        assert found[table] == wanted[table], table
    for row in await rows(dsn, REJECTED):
        if row["reasons"][0] == "picky: not this one":
            assert row["retried_at"] is not None
            assert row["severity"] == ("repaired" if len(row["reasons"]) > 1 else "rejected")
            assert json.loads(row["raw"])["seq"] == row["seq"]


async def test_lines_taken_late_give_the_tables_of_a_load_that_took_them_at_once(
    dsn: str, directory: Path, picky: Path, undisturbed: dict[str, list[str]]
) -> None:
    loaded = await take(dsn, directory, rules=picky)
    assert loaded.rejected == 320
    notes = await rows(dsn, "SELECT count(*) FROM monitoring.audit_rejects WHERE severity = 'repaired'")

    tried = await retry(dsn)

    assert (tried.records, tried.rejected, tried.duplicates) == (320, 0, 0)
    made = tried.orders + tried.trades + tried.order_updates + tried.events
    assert made == 320
    assert min(tried.orders, tried.trades, tried.order_updates, tried.events, tried.repaired) > 10
    await assert_as_loaded(dsn, undisturbed)
    repaired = await rows(dsn, "SELECT count(*) FROM monitoring.audit_rejects WHERE severity = 'repaired'")
    assert (
        repaired[0]["count"]
        == notes[0]["count"] + tried.repaired
        == len([row for row in undisturbed["audit_rejects"] if "'repaired'" in row])
    )
    again = await retry(dsn)
    assert (again.records, again.rejected) == (0, 0)
    await assert_as_loaded(dsn, undisturbed)


async def test_a_line_that_was_told_again_is_taken_once(dsn: str, empty_dsn: str, tmp_path: Path, picky: Path) -> None:
    """L21: it was rejected at both of its places, as its bytes were loaded before a failed sync made them void."""
    lines = list(history(STREAM, 80))
    first = segment(tmp_path / "audit", lines[:50], closed=False)
    assert (await take(dsn, tmp_path / "audit", rules=picky, finish_dead=False)).rejected == 20
    offset = first.read_bytes().index(lines[19])
    segment(tmp_path / "audit", lines[19:], number=2, replaces=(Void(1, offset),))
    again = await take(dsn, tmp_path / "audit", rules=picky)
    assert (again.records, again.rejected, again.duplicates) == (61, 25, 18)

    tried = await retry(dsn)

    made = tried.orders + tried.trades + tried.order_updates + tried.events
    assert (tried.records, tried.rejected, tried.duplicates, made) == (45, 0, 13, 32)
    await take(empty_dsn, tmp_path / "audit")
    found, wanted = [await contents(where, tmp_path / "audit") for where in (dsn, empty_dsn)]
    for table in ("orders", "trades", "order_updates", "events"):
        assert found[table] == wanted[table], table
    assert all(row["retried_at"] for row in await rows(dsn, REJECTED) if row["reasons"][0] == "picky: not this one")
    assert {row["rejected"] for row in await rows(dsn, "SELECT rejected FROM monitoring.audit_segments")} == {0}


async def test_the_stream_the_rule_and_the_time_choose_lines(dsn: str, directory: Path, picky: Path) -> None:
    await take(dsn, directory, rules=picky)
    assert (await retry(dsn, rule="field_missing")).records == 0
    one = await retry(dsn, stream=OTHER_STREAM[-8:])
    assert (one.records, one.rejected) == (160, 0)
    left = await rows(
        dsn, "SELECT DISTINCT stream FROM monitoring.audit_rejects WHERE retried_at IS NULL AND severity = 'rejected'"
    )
    assert [row["stream"] for row in left] == [STREAM]
    (noted,) = await rows(dsn, "SELECT max(rejected_at) AS at FROM monitoring.audit_rejects")
    assert (await retry(dsn, since=noted["at"].replace(year=2100))).records == 0
    assert (await retry(dsn, rule="picky", since=noted["at"].replace(year=2000))).records == 160


async def test_a_column_that_was_widened_lets_its_lines_in(migrated_existing_dsn: str, tmp_path: Path) -> None:
    dsn = migrated_existing_dsn
    symbol = "1000000PEIPEI/USDT:USDT"
    segment(
        tmp_path,
        [
            line(1, "order.created", order(symbol=symbol, order_id="a", size="0.123456785")),
            line(2, "order.updated", update(symbol=symbol, order_id="a", status="FILLED", type="MARKET", side="sell")),
            line(3, "order.created", order(order_id="large", size="1234567890123")),
        ],
    )
    assert (await take(dsn, tmp_path)).rejected == 3
    assert (await retry(dsn)).rejected == 3
    async with await Database.connect(dsn) as database:
        await database.execute("ALTER TABLE monitoring.orders ALTER COLUMN symbol TYPE text")
    tried = await retry(dsn)
    assert (tried.orders, tried.order_updates, tried.rejected, tried.repaired) == (1, 1, 1, 1)
    assert tried.reasons == {("reject", "number_too_large"): 1, ("repair", "number_rounded"): 1}
    (made,) = await rows(dsn, "SELECT * FROM monitoring.orders WHERE stream IS NOT NULL")
    assert (made["symbol"], made["status"], str(made["size"]), made["seq"]) == (symbol, "FILLED", "0.12345679", 1)
    kept = await rows(dsn, REJECTED)
    assert [row["severity"] for row in kept] == ["repaired", "rejected", "rejected"]
    assert [[reason.split(":")[0] for reason in row["reasons"]] for row in kept] == [
        ["text_too_long", "number_rounded"],
        ["text_too_long"],
        ["number_too_large"],
    ]
    assert [row["retried_at"] is not None for row in kept] == [True, True, False]
    (ledger,) = await rows(dsn, "SELECT * FROM monitoring.audit_segments")
    assert (ledger["records"], ledger["rejected"]) == (3, 1)


async def test_a_line_that_still_fails_keeps_its_row_with_todays_reasons(dsn: str, tmp_path: Path, picky: Path) -> None:
    segment(tmp_path, [line(3, "order.created", order(symbol=None, size="much"))])
    await take(dsn, tmp_path, rules=picky)
    (before,) = await rows(dsn, REJECTED)
    assert len(before["reasons"]) == 3
    assert (await retry(dsn)).reasons == {("reject", "field_missing"): 1, ("reject", "number_unreadable"): 1}
    (after,) = await rows(dsn, REJECTED)
    assert after == {**before, "reasons": before["reasons"][:2]}
    assert [reason.split(":")[0] for reason in after["reasons"]] == ["field_missing", "number_unreadable"]


async def test_a_repeated_trade_is_a_duplicate_as_in_a_load(dsn: str, tmp_path: Path, picky: Path) -> None:
    segment(tmp_path, [line(n, "trade.executed", trade(trade_id="same", price=n)) for n in (1, 3)])
    await take(dsn, tmp_path, rules=picky)
    tried = await retry(dsn)
    assert (tried.records, tried.trades, tried.duplicates, tried.repaired, tried.rejected) == (1, 0, 1, 1, 0)
    (kept,) = await rows(dsn, REJECTED)
    assert [reason.split(":")[0] for reason in kept["reasons"]] == ["picky", "repeated_trade"]
    assert (kept["severity"], kept["retried_at"] is not None) == ("repaired", True)
    fills = await rows(dsn, "SELECT seq FROM monitoring.trades")
    assert [row["seq"] for row in fills] == [1]


async def test_what_postgresql_refuses_stays_rejected_with_its_reason(dsn: str, directory: Path, picky: Path) -> None:
    await take(dsn, directory, rules=picky)
    async with await Database.connect(dsn) as database:
        await database.execute(
            "ALTER TABLE monitoring.events ADD CONSTRAINT short CHECK (length(event_data->>'text') < 200) NOT VALID"
        )
    tried = await retry(dsn)
    refused = [n for n in range(201, 401, 6) if n % 5 in (0, 3)]
    assert (tried.records, tried.rejected) == (320, 2 * len(refused))
    left = await rows(dsn, f"SELECT * FROM ({REJECTED}) AS r WHERE retried_at IS NULL AND severity = 'rejected'")
    assert [row["seq"] for row in left] == refused * 2
    assert all(row["reasons"][0].endswith('violates check constraint "short"') for row in left)
    async with await Database.connect(dsn) as database:
        await database.execute("ALTER TABLE monitoring.events DROP CONSTRAINT short")
    assert (await retry(dsn, rule="refused_by_database")).events == 2 * len(refused)


async def test_the_loaders_role_may_do_all_that(
    dsn: str, directory: Path, picky: Path, undisturbed: dict[str, list[str]]
) -> None:
    async with await Database.connect(dsn) as database:
        await database.execute((sql_dir() / "roles.sql").read_text())
        await database.execute("ALTER TABLE monitoring.orders ADD CONSTRAINT cheap CHECK (price < 350)")
    own = f"{dsn}{'&' if '?' in dsn else '?'}role=tradetrail_loader"
    assert await rows(own, "SELECT current_user::text AS me") == [{"me": "tradetrail_loader"}]
    loaded = await take(own, directory, rules=picky)
    refused = loaded.reasons["reject", "refused_by_database"]
    assert (refused > 10, loaded.rejected) == (True, 320 + refused)
    tried = await retry(own)
    assert tried.rejected == tried.reasons["reject", "refused_by_database"] > refused
    async with await Database.connect(dsn) as database:
        await database.execute("ALTER TABLE monitoring.orders DROP CONSTRAINT cheap")
    assert (await retry(own)).rejected == 0
    found = await contents(dsn)
    assert {table: found[table] for table in MADE} == {table: undisturbed[table] for table in MADE}


# -- once, whoever else is at work --


async def test_two_at_once_and_a_loader_beside_them_share_the_work(
    dsn: str, directory: Path, picky: Path, undisturbed: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "PAGE_LINES", 7)
    moved = [path for path in _files(directory) if path.name.endswith(("3.jsonl", "4.jsonl"))]
    aside = directory.parent / "aside"
    aside.mkdir()
    for path in moved:
        path.rename(aside / path.name)
    await take(dsn, directory, rules=picky)
    for path in moved:
        (aside / path.name).rename(directory / path.name)

    settings = LoadSettings(directory=directory, dsn=dsn, rules=picky, batch_bytes=5_000)
    async with Loader(settings) as loader:
        *tried, loaded = await asyncio.gather(retry(dsn), retry(dsn), loader.take())
    assert loaded.records == 400
    assert all(totals.rejected == 0 for totals in tried)
    tried.append(await retry(dsn))
    assert sum(totals.records for totals in tried) == 320
    await assert_as_loaded(dsn, undisturbed)


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


_CHILD = """
import asyncio, sys
from loader.rejects import rejects
from loader.rejects.rejects import Asked
from loader.rejects.retry import Retry

rejects.PAGE_LINES = 5

async def main():
    async with Retry(sys.argv[1]) as tried:
        await tried.take(Asked(severity="rejected"))

asyncio.run(main())
"""


def test_killed_anywhere_it_leaves_whole_pages(
    dsn: str, directory: Path, picky: Path, undisturbed: dict[str, list[str]]
) -> None:
    asyncio.run(take(dsn, directory, rules=picky))
    seen = [asyncio.run(_left(dsn))]
    for n in range(6):
        with subprocess.Popen([sys.executable, "-c", _CHILD, dsn]) as child:
            while child.poll() is None and asyncio.run(_left(dsn)) == seen[-1]:
                pass
            time.sleep(n * 0.01)  # some way into a later page
            child.kill()
        # The server may still be at the dead client's COMMIT.
        seen.append(asyncio.run(_left(dsn)))
    assert len(set(seen) - {seen[0], 0}) > 1, "no kill fell between two pages"
    tried = asyncio.run(retry(dsn))
    assert tried.rejected == 0
    asyncio.run(assert_as_loaded(dsn, undisturbed))


async def _left(dsn: str) -> int:
    """How many lines are still to be tried again."""
    async with await Database.connect(dsn) as database:
        left = "SELECT count(*) FROM monitoring.audit_rejects WHERE retried_at IS NULL AND severity = 'rejected'"
        return int(await database.fetchval(left))


@asynccontextmanager
async def deaf_to_commits(dsn: str, commits: int) -> AsyncIterator[str]:
    """A way to the server on which the answers to the first COMMITs are lost with the connection."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    folder = query["host"][0] if "host" in query else None
    left = commits
    serving = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        if folder:
            up = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{query.get('port', ['5432'])[0]}")
        else:
            up = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        deaf = False

        async def back() -> None:
            while data := await up[0].read(65536):
                if deaf:
                    break
                writer.write(data)
            writer.close()

        serving.append(asyncio.create_task(back()))
        while data := await reader.read(65536):
            if b"COMMIT\0" in data and left:
                left -= 1
                deaf = True
            up[1].write(data)
        up[1].close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rest = urlencode({name: values[0] for name, values in query.items() if name not in ("host", "port")})
    login = parts.netloc.rpartition("@")[0]
    yield parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}", query=rest).geturl()
    server.close()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    assert left == 0


async def test_the_outcome_of_a_lost_commit_is_found_in_the_marks(
    dsn: str, directory: Path, picky: Path, undisturbed: dict[str, list[str]]
) -> None:
    await take(dsn, directory, rules=picky)
    async with deaf_to_commits(dsn, 1) as way:
        tried = await retry(way)
    assert (tried.records, tried.rejected, tried.duplicates) == (320, 0, 0)
    assert tried.orders + tried.trades + tried.order_updates + tried.events == 320
    await assert_as_loaded(dsn, undisturbed)


# -- mended lines --


def mended(path: Path, *entries: dict[str, Any] | str) -> Path:
    path.write_text("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries))
    return path


def exported(dsn: str, *args: str) -> list[dict[str, Any]]:
    done = tradetrail("rejects", "export", "--dsn", dsn, *args)
    assert (done.returncode, done.stderr) == (0, ""), done
    return [json.loads(text) for text in done.stdout.splitlines()]


@pytest.fixture
def bad(tmp_path: Path, dsn: str) -> Path:
    """A segment of good lines and rejected ones, loaded: the latter have seqs 2 (inferred), 4 (known), none, none."""
    path = segment(
        tmp_path / "audit",
        [
            line(1, "order.created", order(order_id="o1", status="NEW")),
            b'{"torn\xff\n',
            line(3, "ping", {"n": 3}),
            line(4, "order.updated", update(status="FILLED", filled="much")),
            control_line(STREAM, "audit.lost", {"count": 1, "ranges": [{"first": 5, "last": 5, "reason": "full"}]}),
            line(6, "trade.executed", trade()),
            b"who knows\n",
            b"nobody\0\n",
            line(12, "ping", {"n": 12}),
        ],
    )
    answer("load", "--dir", path.parent, "--dsn", dsn, code=1)
    return path


def test_lines_are_exported_whole_and_in_order(dsn: str, bad: Path, tmp_path: Path) -> None:
    found = exported(dsn)
    assert [set(entry) - {"line_base64"} for entry in found] == [
        {"stream", "segment", "byte_offset", "seq", "severity", "reasons", "event_name", "line"}
    ] * 4
    assert [(e["seq"], e["event_name"], e["line"] and e["line"][:9]) for e in found] == [
        (2, None, None),
        (4, "order.updated", '{"stream"'),
        (None, None, "who knows"),
        (None, None, None),
    ]
    data = bad.read_bytes()
    for entry in found:
        line_ = base64.b64decode(entry["line_base64"]) if entry["line"] is None else entry["line"].encode()
        assert data[entry["byte_offset"] :].startswith(line_ + b"\n")
        assert (entry["stream"], entry["segment"], entry["severity"]) == (STREAM, 1, "rejected")
    assert [entry["seq"] for entry in exported(dsn, "--rule", "number_unreadable")] == [4]
    assert exported(dsn, "--severity", "repaired") == []
    assert exported(dsn, "--stream", "nope") == exported(dsn, "--since", "2100-01-01") == []
    # As they were written out, they are still what they were.
    file = mended(tmp_path / "same", *found)
    done = answer("rejects", "retry", "--from", file, "--dsn", dsn, code=1)
    assert (done["retried"], done["rejected"]) == (4, 4)
    assert done["reasons"] == {"not_json": 2, "not_utf8": 1, "number_unreadable": 1}


def test_the_exported_file_is_new_and_the_owners_alone(dsn: str, bad: Path, tmp_path: Path) -> None:
    file = tmp_path / "mend.jsonl"
    args = ["rejects", "export", file, "--dsn", dsn]
    done = tradetrail(*args)
    assert (done.returncode, done.stdout) == (0, f"4 lines in {file}\n")
    assert mode(file) == 0o600
    assert len(file.read_text().splitlines()) == 4
    assert "--force" in one_line(tradetrail(*args), 2)
    file.write_text("mine")
    assert "--force" in one_line(tradetrail(*args), 2)
    assert file.read_text() == "mine"
    assert answer(*args, "--force") == {"file": str(file), "lines": 4}
    assert mode(file) == 0o600
    assert len(file.read_text().splitlines()) == 4
    assert "no such directory" in one_line(tradetrail("rejects", "export", tmp_path / "no" / "f", "--dsn", dsn), 2)
    assert "is a directory" in one_line(tradetrail("rejects", "export", tmp_path, "--dsn", dsn, "--force"), 2)
    # Nothing half written is left behind, and what was there stays.
    away = "postgresql://bot@127.0.0.1:1/trading"
    one_line(tradetrail("rejects", "export", tmp_path / "new", "--dsn", away), 3)
    one_line(tradetrail("rejects", "export", file, "--dsn", away, "--force"), 3)
    assert {path.name for path in tmp_path.iterdir()} == {"audit", "mend.jsonl"}
    assert len(file.read_text().splitlines()) == 4


def test_mended_lines_are_taken_as_if_they_had_been_logged_so(
    cluster: Cluster, dsn: str, bad: Path, tmp_path: Path
) -> None:
    right = [
        line(2, "order.updated", update(price=7)),
        line(4, "order.updated", update(status="FILLED", filled=5, side="up")),
        line(7, "trade.executed", trade(trade_id="t7")),
        line(9, "ping", {"n": 9}),
    ]
    entries = exported(dsn)
    for entry, text in zip(entries, right, strict=True):
        entry["line"] = text.decode()
    file = mended(tmp_path / "mended", *entries)
    before = asyncio.run(rows(dsn, REJECTED))

    done = answer("rejects", "retry", "--from", file, "--dsn", dsn)

    assert done.pop("seconds") >= 0
    assert done == {
        "retried": 4, "taken": 4, "orders": 0, "trades": 1, "order_updates": 2, "events": 1, "duplicates": 0,
        "rejected": 0, "repaired": 1, "reasons": {"side_unknown": 1},
    }  # fmt: skip
    data = bad.read_bytes().splitlines(keepends=True)
    wrong = [n for n, text in enumerate(data) if text.startswith((b'{"torn', b"who", b"nobody")) or b"much" in text]
    for n, text in zip(wrong, right, strict=True):
        data[n] = text
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / bad.name).write_bytes(b"".join(data))
    with cluster.database(cluster.template(existing=False, migrated=True)) as other:
        answer("load", "--dir", tmp_path / "right", "--dsn", other, code=1)  # one was lost
        wanted, found = asyncio.run(contents(other)), asyncio.run(contents(dsn))
        for table in ("orders", "trades", "order_updates", "events"):
            assert found[table] == wanted[table], table
        ledgers = [
            asyncio.run(rows(d, "SELECT records, rejected, lost, first_seq, last_seq FROM monitoring.audit_segments"))
            for d in (dsn, other)
        ]
        assert ledgers[0] == ledgers[1]
    after = asyncio.run(rows(dsn, REJECTED))
    assert [row["seq"] for row in after] == [2, 4, 7, 9]
    assert all(row["retried_at"] is not None for row in after)
    assert [row["severity"] for row in after] == ["rejected", "repaired", "rejected", "rejected"]
    for old, new in zip(before, after, strict=True):
        assert (new["raw"], new["raw_bytes"], new["reasons"][0]) == (old["raw"], old["raw_bytes"], old["reasons"][0])
    status = answer("status", "--dir", bad.parent, "--dsn", dsn)["total"]
    assert (status["loaded"], status["rejected"], status["lost"]) == (8, 0, 1)
    listed = tradetrail("rejects", "list", "--dsn", dsn).stdout
    assert listed.count("taken after all") == 4

    again = tradetrail("rejects", "retry", "--from", file, "--dsn", dsn)
    assert again.returncode == 0
    assert again.stderr.splitlines() == [
        f"tradetrail: {file}:{n}: the line of that place is loaded already" for n in range(1, 5)
    ]
    assert exported(dsn) == []
    assert asyncio.run(contents(dsn)) == found


@pytest.mark.parametrize(
    ("which", "text", "rule", "words"),
    [
        (0, line(9, "ping", {}), "seq_of_another_record", "seq is 9, but the record that belongs here is number 2"),
        (1, line(2, "ping", {}), "seq_of_another_record", "seq is 2, but the record that belongs here is number 4"),
        (2, line(3, "ping", {}), "seq_taken", "seq 3 is another record's"),  # in events
        (2, line(1, "ping", {}), "seq_taken", "seq 1 is another record's"),  # in orders
        (2, line(6, "ping", {}), "seq_taken", "seq 6 is another record's"),  # in trades
        (2, line(5, "ping", {}), "seq_taken", "seq 5 is another record's"),  # declared lost
        (2, line(4, "ping", {}), "seq_taken", "seq 4 is another record's"),  # rejected itself
        (2, line(8, "ping", {}, stream=OTHER_STREAM), "stream_of_another_file", OTHER_STREAM),
        (2, control_line(STREAM, "segment.closed", {}), "no_record", "the line is no record"),
        (2, line(8, "ping", {}).replace(b'"seq":8', b'"seq":0'), "seq_unreadable", "whole number"),
        (2, b"\n", "empty_line", "empty"),
    ],
)
def test_a_line_stands_only_for_its_own_record(
    dsn: str, bad: Path, tmp_path: Path, which: int, text: bytes, rule: str, words: str
) -> None:
    before = asyncio.run(contents(dsn))
    entry = {**exported(dsn)[which], "line": text.decode()}
    file = mended(tmp_path / "mended", entry)
    done = tradetrail("rejects", "retry", "--from", file, "--dsn", dsn)
    assert done.returncode == 1
    assert rule in done.stdout
    assert words in done.stdout
    assert answer("rejects", "retry", "--from", file, "--dsn", dsn, code=1)["reasons"] == {rule: 1}
    assert asyncio.run(contents(dsn)) == before


def test_two_lines_cannot_be_the_same_record(dsn: str, bad: Path, tmp_path: Path) -> None:
    entries = exported(dsn)[2:]
    for entry in entries:
        entry["line"] = line(8, "ping", {"place": entry["byte_offset"]}).decode()
    done = answer("rejects", "retry", "--from", mended(tmp_path / "mended", *entries), "--dsn", dsn, code=1)
    assert (done["taken"], done["reasons"]) == (0, {"seq_taken": 2})
    assert answer("rejects", "retry", "--from", mended(tmp_path / "one", entries[1]), "--dsn", dsn)["events"] == 1
    done = answer("rejects", "retry", "--from", mended(tmp_path / "two", entries[0]), "--dsn", dsn, code=1)
    assert done["reasons"] == {"seq_taken": 1}
    (made,) = asyncio.run(rows(dsn, "SELECT event_data FROM monitoring.events WHERE seq = 8"))
    assert made["event_data"] == {"place": entries[1]["byte_offset"]}


async def test_a_record_that_was_loaded_as_another_kind_is_not_taken_again(
    dsn: str, tmp_path: Path, picky: Path
) -> None:
    segment(tmp_path, [line(3, "ping", {})])
    await take(dsn, tmp_path, rules=picky)
    async with await Database.connect(dsn) as database:
        # As if the same record had come from elsewhere, after a disk was repaired.
        await database.execute("INSERT INTO monitoring.trades (stream, seq, symbol) VALUES ($1, 3, 'X')", STREAM)
    tried = await retry(dsn)
    assert (tried.rejected, tried.reasons) == (1, {("reject", "seq_taken"): 1})
    assert await rows(dsn, "SELECT FROM monitoring.events") == []


def test_entries_that_cannot_be_used_are_said_and_the_others_taken(dsn: str, bad: Path, tmp_path: Path) -> None:
    entry = {**exported(dsn)[2], "line": line(8, "ping", {}).decode()}
    cases: list[tuple[dict[str, Any] | str, str]] = [
        ("no json", "is no JSON: Expecting value"),
        ("[1]", "is no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ({}, "stream is missing"),
        ({**entry, "stream": "\0"}, "stream is missing, or no id"),
        ({**entry, "segment": True}, "segment or byte_offset"),
        ({**entry, "byte_offset": -1}, "segment or byte_offset"),
        ({**entry, "segment": 10**30}, "segment or byte_offset"),
        ({**entry, "segment": 2**62}, "no line of that stream"),
        ({**entry, "byte_offset": entry["byte_offset"] + 1}, "no line of that stream"),
        ({**entry, "line": {"seq": 1}}, "line is missing, or no text"),
        ({**entry, "line": None}, "line is missing, or no text"),
        ({**entry, "line": None, "line_base64": "%"}, "line_base64 is no base64"),
        ({**entry, "line": "a\nb"}, "line holds a line break"),
        ({**entry, "line": "\ud800"}, "line holds half a character"),
        ({**entry, "extra": [1]}, ""),
        (entry, "names the same place as line 17"),
    ]
    file = mended(tmp_path / "mended", "\ufeff", *(case for case, _ in cases), "")
    done = tradetrail("rejects", "retry", "--from", file, "--dsn", dsn)
    assert done.returncode == 1
    wanted = [(n, words) for n, (_, words) in enumerate(cases, 2) if words]
    said = done.stderr.splitlines()
    assert len(said) == len(wanted)
    for text, (n, words) in zip(said, wanted, strict=True):
        assert text.startswith(f"tradetrail: {file}:{n}: {words}"), text
    assert "1 of 1 rejected line taken" in done.stdout
    assert f"{len(wanted)} lines of the file could not be used" in done.stdout


def test_a_mended_line_may_be_exact_bytes_and_a_pipe_does(dsn: str, bad: Path) -> None:
    entry = exported(dsn)[3]
    entry["line_base64"] = base64.b64encode(line(9, "ping", {"text": "\u20ac"}) + b"").decode()
    done = subprocess.run(
        [Path(sys.executable).with_name("tradetrail"), "rejects", "retry", "--from", "-", "--json", "--dsn", dsn],
        input=json.dumps(entry).encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["events"] == 1


def test_with_nothing_there_is_nothing_to_do(tmp_path: Path, dsn: str, empty_dsn: str) -> None:
    for where in (["--dsn", dsn], ["--dsn", empty_dsn], []):
        assert answer("rejects", "retry", *where, cwd=tmp_path)["retried"] == 0
        assert "no rejected line is waiting" in tradetrail("rejects", "retry", *where, cwd=tmp_path).stdout
        assert tradetrail("rejects", "export", *where, cwd=tmp_path).stdout == ""
    assert list(tmp_path.iterdir()) == []
    file = mended(tmp_path / "mended", {"stream": STREAM, "segment": 1, "byte_offset": 0, "line": "x"})
    assert "no line of that stream" in tradetrail("rejects", "retry", "--from", file, "--dsn", empty_dsn).stderr


async def test_many_lines_go_page_by_page(
    dsn: str, tmp_path: Path, picky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "PAGE_BYTES", 40_000)
    texts = [line(5 * n, "ping", {"n": n, "text": "y" * (100_000 if n == 50 else n % 500)}) for n in range(1, 301)]
    segment(tmp_path, texts)
    assert (await take(dsn, tmp_path, rules=picky)).rejected == 300
    pages = []
    async with await Database.connect(dsn) as database:
        count, last = await rejects.extent(database, Asked(severity="rejected"))
        after = 0
        while page := await rejects.page(database, Asked(severity="rejected"), after, last):
            after = page[-1]["id"]
            pages.append([row["seq"] for row in page])
            assert len(page) == 1 or sum(len(row["raw"]) for row in page) <= 40_000
        lines = [json.loads(text) async for text in rejects.export(database, Asked(severity="rejected"))]
    assert count == 300
    assert (
        [seq for page in pages for seq in page] == [entry["seq"] for entry in lines] == [5 * n for n in range(1, 301)]
    )
    assert len(pages) > 3
    assert [entry["line"].encode() + b"\n" for entry in lines] == texts
    assert (await retry(dsn)).events == 300
