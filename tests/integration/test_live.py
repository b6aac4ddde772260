"""``tradetrail live``: it shows what is there, reads only what is new, and leaves a terminal as it was."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pytest

from emitter import AuditLog
from emitter.segments import Void
from loader.live.database import DatabaseFeed
from loader.live.logs import LogFeed
from loader.live.looks import Seen
from loader.live.screen import _keys

from ..command import FILL, ORDER, SCRIPT, emit, environment, one_line, tradetrail
from ..faults.proxy import Proxy
from ..lines import OTHER_STREAM, STREAM, line, order, segment, trade, update
from ..plugins.postgres import Cluster
from ..plugins.server import Server

PATIENCE_S = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
TEMPLATE = {"existing": False, "migrated": True}


class Terminal:
    """A running ``live`` on a terminal of its own."""

    def __init__(self, *args: str | Path, size: tuple[int, int], cwd: Path) -> None:
        self.ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        self.resize(*size)
        known = environment(TERM="xterm-256color")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            known.pop(name, None)
        self.process = subprocess.Popen(
            [SCRIPT, "live", "--every", "0.2", *map(str, args)],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            cwd=cwd,
            env=known,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.said = ""

    def resize(self, lines: int, columns: int) -> None:
        """As when somebody drags the window's corner: the terminal tells its foreground process."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def screen(self) -> list[str]:
        """The lines of the last frame that came whole."""
        frames = self.said.split("\x1b[H")[1:-1]
        return [text.rstrip() for text in ESCAPES.sub("", frames[-1]).splitlines()] if frames else []

    def until(self, shown: Callable[[list[str]], bool]) -> list[str]:
        """The first screen of which this is so."""
        until = time.monotonic() + PATIENCE_S
        while not shown(self.screen()):
            assert time.monotonic() < until, "\n".join([*self.screen(), self.said[-500:]])
            self._read(0.1)
        return self.screen()

    def until_said(self, words: str) -> list[str]:
        return self.until(lambda screen: words in "\n".join(screen))

    def ended(self) -> int:
        """Its exit code; the terminal has its own screen, cursor and settings again."""
        until = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < until
            self._read(0.05)
        self._read(0)
        assert self.said.count(ENTER) == self.said.count(LEAVE) == 1
        assert SHOW_CURSOR in self.said[self.said.rindex(LEAVE) - 50 :]
        assert termios.tcgetattr(self._theirs) == self.before
        assert "Traceback" not in self.said
        return self.process.returncode

    def _read(self, patience_s: float) -> None:
        while select.select([self.ours], [], [], patience_s)[0]:
            self.said += os.read(self.ours, 65536).decode()
            patience_s = 0

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


@contextmanager
def on_terminal(*args: str | Path, cwd: Path, size: tuple[int, int] = (24, 80)) -> Iterator[Terminal]:
    terminal = Terminal(*args, size=size, cwd=cwd)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def once(*args: str | Path, cwd: Path) -> list[str]:
    done = tradetrail("live", "--once", *args, cwd=cwd)
    assert done.returncode == 0, done
    return [text.rstrip() for text in done.stdout.splitlines()]


def part(screen: list[str], heading: str) -> list[list[str]]:
    """The rows of a table, words apart by two blanks and more."""
    first = next(at for at, text in enumerate(screen) if text.startswith(heading))
    rows = [re.split(r"\s{2,}", text) for text in screen[first + 1 :]]
    return rows[: rows.index([""])] if [""] in rows else rows


# -- what it shows --


def test_one_frame_says_how_the_log_is_and_what_was_traded_last(directory: Path, tmp_path: Path) -> None:
    emit(directory, 2)
    stream = emit(directory, 3)
    screen = once("--dir", directory, cwd=tmp_path)
    assert screen[1] == "all well: no record is missing, no file has a problem"
    assert screen[2] == "2 streams; 2 segments; 17 records"
    assert re.fullmatch(
        r"last record \d s ago; last digest [0-9a-f]{16} of fox-bot \.\.[0-9a-f]{6} segment 1", screen[3]
    )
    assert part(screen, "streams")[0] == ["fox-bot", f"..{stream[-6:]}", "closed", "10", "0"]
    assert [row[1:] for row in part(screen, "orders")] == [["bybit", "MNTUSDT", "MARKET", "sell", "94.7", "FILLED"]] * 5
    assert [row[1:] for row in part(screen, "trades")] == [
        ["bybit", "MNTUSDT", "sell", "94.7", "2.1118", "0.1 USDT"]
    ] * 5


def test_an_empty_directory_and_none(directory: Path, tmp_path: Path) -> None:
    said = one_line(tradetrail("live", "--once", "--dir", directory, cwd=tmp_path), code=2)
    assert "there is no such directory" in said
    directory.mkdir()
    screen = once("--dir", directory, cwd=tmp_path)
    assert screen[1] == "no streams yet: no emitter has written here"
    assert part(screen, "orders") == part(screen, "trades") == [["none yet"]]


def test_both_sources_show_the_same_orders_and_trades(directory: Path, dsn: str, tmp_path: Path) -> None:
    segment(directory, [
        line(1, "order.created", order(order_id="a", status="NEW", size="94.70", price=0.00001)),
        line(2, "order.updated", update(order_id="a", status="FILLED", filled="94.7", price="2.10")),
        line(3, "order.updated", update(order_id="a", status="OPEN", price="9")),
        line(4, "order.created", order(order_id="b", client_order_id="mine", status="NEW", type="LIMIT", side="buy")),
        line(5, "order.updated", update(order_id=None, client_order_id="mine", status="CANCELED")),
        line(6, "trade.executed", trade(trade_id="1", fee="0.25", fee_currency="USDT")),
        line(7, "trade.executed", trade(trade_id="1", price="9")),
        line(8, "trade.executed", trade(trade_id="2", fees=[
            {"currency": "BNB", "cost": "0.1"}, {"currency": "USDT", "cost": Decimal("0.20")}])),
        line(9, "trade.executed", trade(trade_id="3", executed_at="2026-11-20T00:00:00Z", position_id="p")),
    ])  # fmt: skip
    assert tradetrail("load", "--dir", directory, "--dsn", dsn, cwd=tmp_path).returncode == 0
    logs, database = (once("--dir", directory, *more, cwd=tmp_path) for more in ([], ["--dsn", dsn]))
    assert [row[1:] for row in part(logs, "orders")] == [
        ["bybit", "MNTUSDT", "LIMIT", "buy", "94.7", "2.1118", "CANCELED"],
        ["bybit", "MNTUSDT", "MARKET", "sell", "94.7", "2.1", "94.7", "FILLED"],
    ]
    assert [row[1:] for row in part(logs, "trades")] == [
        ["bybit", "MNTUSDT", "sell", "94.7", "2.1118", "0.1 BNB + 0.2 USDT", "55"],
        ["bybit", "MNTUSDT", "sell", "94.7", "2.1118", "0.25 USDT", "55"],
        ["bybit", "MNTUSDT", "sell", "94.7", "2.1118", "p"],
    ]
    for table in ("orders", "trades"):
        assert part(logs, table) == part(database, table)
    assert database[2] == "1 stream; 1 segment; 9 records; 0 behind"
    assert part(database, "streams")[0][2:] == ["closed", "9", "0", "0", "0"]


def test_what_is_archived_or_gone_is_told_apart(directory: Path, dsn: str, tmp_path: Path) -> None:
    for stream in (STREAM, OTHER_STREAM):
        segment(directory, [line(seq, "ping", {}, stream=stream) for seq in (1, 2)], stream=stream)
    at = ("--dir", directory, "--dsn", dsn)
    assert tradetrail("load", *at, cwd=tmp_path).returncode == 0
    done = tradetrail("archive", *at, "--keep", "0s", cwd=tmp_path)
    assert (done.returncode, list(directory.glob("*.jsonl"))) == (0, []), done.stderr
    next((directory / "archive").glob(f"*{OTHER_STREAM}*")).unlink()
    screen = once(*at, cwd=tmp_path)
    assert screen[2].startswith("2 streams; 2 segments; 4 records")
    states = {row[1][-6:]: row[2] for row in part(screen, "streams")}
    assert states == {STREAM[-6:]: "archived", OTHER_STREAM[-6:]: "no files"}


def test_what_is_not_loaded_rejected_or_lost_is_said(directory: Path, dsn: str, tmp_path: Path) -> None:
    segment(directory, [line(1, "ping", {}), line(2, "trade.executed", {"symbol": "AB"}), line(5, "ping", {})])
    assert tradetrail("load", "--dir", directory, "--dsn", dsn, cwd=tmp_path).returncode == 1
    segment(directory, [line(1, "ping", {}), line(2, "ping", {})], stream=OTHER_STREAM, closed=False, tail=b'{"torn')
    segment(directory, [line(1, "ping", {})], stream="f" * 32, number=2)
    logs, database = (once("--dir", directory, *more, cwd=tmp_path) for more in ([], ["--dsn", dsn]))
    missing = [f"hand.{'f' * 32}.000001.jsonl: is missing, though a later segment of its stream is there"]
    for screen, rejected in ((logs, []), (database, ["1 line rejected: see tradetrail rejects"])):
        said = [text.partition(";")[0] for text in screen[1 : 4 + len(rejected)]]
        unfinished = ["1 stream is unfinished: the emitter died"]
        assert said == ["2 records are lost: see tradetrail verify", *missing, *unfinished, *rejected]
    assert logs[4] == "3 streams; 3 segments; 6 records"
    assert database[5] == "3 streams; 3 segments; 3 records; 3 behind"


def test_a_value_cannot_drive_the_terminal(directory: Path, tmp_path: Path) -> None:
    with AuditLog(directory, service="bot") as audit:
        audit.order(**ORDER | {"symbol": "A\x1b[31mB", "status": "[red]N\nEW"}, order_id="1")
        audit.trade(**FILL | {"exchange": "e\x9b2Jx"}, trade_id="1", fee="0.1", fee_currency="\x1b]0;t\x07")
    done = tradetrail("live", "--once", "--dir", directory, cwd=tmp_path)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert {r"A\x1b[31mB", "[red]N EW", r"e\x9b2Jx"} <= set(re.split(r"\s{2,}|\n", done.stdout))


# -- looking again --


def test_only_new_bytes_are_read(directory: Path) -> None:
    lines = b"".join(line(seq, "ping", {"text": "x" * 4000}) for seq in range(1, 2001))
    path = segment(directory, [lines], closed=False)
    feed = LogFeed(directory)
    assert feed.seen().total("records") == 2000
    with path.open("ab") as file:
        file.write(line(2001, "trade.executed", trade(trade_id="new")))
    before = _bytes_read()
    seen = feed.seen()
    assert _bytes_read() - before < 300_000 < path.stat().st_size / 20
    assert seen.total("records") == 2001
    assert [row["quantity"] for row in seen.trades] == [94.7]


def test_a_line_counts_when_it_is_whole_and_void_bytes_no_more(directory: Path) -> None:
    path = segment(directory, [line(1, "ping", {})], closed=False, tail=line(2, "ping", {})[:-9])
    feed = LogFeed(directory)
    assert feed.seen().total("records") == 1
    offset = path.stat().st_size - len(line(2, "ping", {})) + 9
    with path.open("ab") as file:
        file.write(line(2, "ping", {})[-9:] + line(3, "ping", {}))
    assert feed.seen().total("records") == 3
    segment(directory, [line(2, "ping", {}), line(3, "ping", {})], number=2, replaces=(Void(1, offset),))
    seen = feed.seen()
    assert (seen.total("records"), seen.total("missing"), seen.problems) == (3, 0, {})
    assert [stream.state for stream in seen.streams] == ["closed"]
    assert feed.last_seqs() == {STREAM: 3}


def _bytes_read() -> int:
    fields = Path("/proc/self/io").read_text().split()
    return int(fields[fields.index("rchar:") + 1])


def test_a_database_that_was_cut_off_is_said_and_asked_again(
    directory: Path, own_cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    async def looks(dsn: str, proxy: Proxy) -> list[Seen]:
        feed = DatabaseFeed(dsn, None)
        first = await feed.look()
        proxy.arm("cut")
        await asyncio.to_thread(proxy_struck, proxy)
        found = [first, await feed.look(), await feed.look()]
        await feed.close()
        return found

    with own_cluster.database(own_cluster.template(**TEMPLATE)) as dsn, Proxy(server.port) as proxy:
        emit(directory)
        assert tradetrail("load", "--dir", directory, "--dsn", dsn, cwd=tmp_path).returncode == 0
        seen = asyncio.run(looks(dsn.replace(f":{server.port}/", f":{proxy.port}/"), proxy))
    assert [one.away is None for one in seen] == [True, False, True]
    assert "is lost" in str(seen[1].away)
    assert [one.total("records") for one in seen] == [10, 10, 10]
    assert [(len(one.orders), len(one.trades)) for one in seen] == [(3, 3)] * 3


def proxy_struck(proxy: Proxy) -> None:
    until = time.monotonic() + PATIENCE_S
    while not proxy.struck["cut"]:
        assert time.monotonic() < until


# -- on a terminal --


def test_a_terminal_shows_what_comes_and_is_left_as_it_was(directory: Path, tmp_path: Path) -> None:
    with AuditLog(directory, service="fox-bot") as audit, on_terminal("--dir", directory, cwd=tmp_path) as terminal:
        terminal.until_said("no streams yet" if not list(directory.iterdir()) else "0 records")
        for n in range(40):
            audit.trade(**FILL, trade_id=f"t{n}", position_id=f"number {n}")
        narrow = terminal.until_said("40 records")
        assert len(narrow) <= 24
        assert max(map(len, narrow)) <= 80
        assert part(narrow, "streams")[0][2:] == ["live", "40", "0"]
        terminal.resize(60, 200)
        wide = terminal.until(lambda screen: len(part(screen, "trades")) == 40)
        assert len(wide) <= 60
        assert 80 < max(map(len, wide)) <= 200
        assert [row[-1] for row in part(wide, "trades")][:2] == ["number 39", "number 38"]
        terminal.press(b"q")
        assert terminal.ended() == 0


@pytest.mark.parametrize(("signum", "key", "code"), [(signal.SIGTERM, b"", 143), (None, b"\x03", 130)])
def test_signals_leave_the_terminal_as_it_was(
    signum: signal.Signals | None, key: bytes, code: int, directory: Path, tmp_path: Path
) -> None:
    emit(directory)
    with on_terminal("--dir", directory, cwd=tmp_path) as terminal:
        terminal.until_said("10 records")
        terminal.press(b"x\x1a")  # Ctrl-Z stops nothing
        if signum:
            terminal.process.send_signal(signum)
        else:
            terminal.press(key)
        assert terminal.ended() == code


async def test_reading_keys_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C right behind a key takes that key away, between the word that it is there and its reading."""
    ours, theirs = pty.openpty()
    pressed: asyncio.Queue[bytes] = asyncio.Queue()
    with os.fdopen(theirs, "rb", buffering=0) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with _keys(pressed.put_nowait):
            assert os.read(theirs, 1) == b""
            os.write(ours, b"x")
            assert await pressed.get() == b"x"
            os.close(ours)  # and one that is gone ends nothing with an error


def test_a_database_that_goes_away_and_comes_back(
    directory: Path, own_cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    with own_cluster.database(own_cluster.template(**TEMPLATE)) as dsn:
        emit(directory)
        assert tradetrail("load", "--dir", directory, "--dsn", dsn, cwd=tmp_path).returncode == 0
        with on_terminal("--dir", directory, "--dsn", dsn, cwd=tmp_path) as terminal:
            terminal.until_said("all well")
            server.stop("immediate")
            try:
                away = terminal.until_said("the database is away")
                assert len(part(away, "trades")) == 3
                done = tradetrail("live", "--once", "--dir", directory, "--dsn", dsn, cwd=tmp_path)
                assert (done.returncode, "the database is away" in done.stdout) == (3, True)
                assert len(done.stderr.splitlines()) == 1
            finally:
                server.start()
            back = terminal.until_said("all well")
            assert len(part(back, "trades")) == 3
            terminal.press(b"q")
            assert terminal.ended() == 0


def test_without_a_terminal_it_says_what_to_do(directory: Path, tmp_path: Path) -> None:
    emit(directory)
    said = one_line(tradetrail("live", "--dir", directory, cwd=tmp_path), code=2)
    assert "--once" in said
