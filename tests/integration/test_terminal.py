"""What a person sees on a terminal: the width, colours, progress, completion; the command runs on a real one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from emitter import AuditLog
from tests.command import SCRIPT, environment, tradetrail

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7])[;m]")
_PATIENCE_S = 60.0


def on_terminal(*args: str | Path, width: int = 80, cwd: Path | None = None, **env: str) -> str:
    """Run a command on a terminal so wide; all that came there, with the escape sequences."""
    known = environment(**env)
    for name in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"} - set(env):
        known.pop(name, None)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    said = b""
    with subprocess.Popen(
        [SCRIPT, *map(str, args)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={"TERM": "xterm-256color"} | known,
        start_new_session=True,
    ) as running:
        os.close(theirs)
        try:
            until = time.monotonic() + _PATIENCE_S
            while select.select([ours], [], [], max(0.0, until - time.monotonic()))[0]:
                try:
                    said += os.read(ours, 65536)
                except OSError:  # the other side is gone
                    break
        finally:
            running.kill()
            os.close(ours)
    return said.decode()


def shown(text: str) -> list[str]:
    """The lines of it that are not empty, each as often as it was drawn, without escape sequences."""
    return [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)) if line.strip()]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Round trips of a size and price that take room: long symbols, large and small numbers."""
    directory = tmp_path_factory.mktemp("terminal") / "audit"
    with AuditLog(directory, service="a-bot-with-quite-a-long-name") as audit:
        for n, symbol in enumerate(("1000000PEIPEI/USDT:USDT", "BTC/USDT:USDT", "MNT/USDT:USDT")):
            for side, price in (("buy", 91250.4), ("sell", 91250.4 - 1234.5678 * (n - 1))):
                audit.trade(
                    exchange="bybit", symbol=symbol, side=side, price=price, executed_qty=123.4567, fee=456.789,
                    fee_currency="USDT", trade_id=f"{n}-{side}", position_id=n,
                )  # fmt: skip
    return directory


# -- width --


NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?%?")
TABLES = [
    ["status"],
    ["metrics", "--by", "symbol"],
    ["query", "SELECT symbol, price, executed_qty, timestamp, trade_id, stream FROM trades"],
    ["verify", "--no-database"],
    ["verify", "--rules"],
    ["validate", "--rules"],
]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("args", TABLES, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(log: Path, args: list[str], width: int, tmp_path: Path) -> None:
    said = shown(on_terminal(*args, "--dir", log, width=width, cwd=tmp_path))
    assert max(map(len, said)) <= width
    assert not [line for line in said if re.search(r"\d…", line) and args[0] != "query"], said


def test_figures_are_left_out_rather_than_cut(log: Path, tmp_path: Path) -> None:
    narrow, wide = (
        " ".join(shown(on_terminal("metrics", "--by", "symbol", "--dir", log, width=width, cwd=tmp_path))).split()
        for width in (80, 200)
    )
    for figure in ("151,502.0", "-153,329.2"):
        assert any(word.startswith(figure) for word in wide), wide
    assert "losses" in wide
    kept = {word for word in narrow if NUMBER.fullmatch(word)}
    assert kept <= {word for word in wide if NUMBER.fullmatch(word)}
    assert "1000000PEIPEI/USDT:USDT" in narrow


def test_off_a_terminal_nothing_is_cut(log: Path, tmp_path: Path) -> None:
    said = tradetrail("metrics", "--by", "symbol", "--dir", log, cwd=tmp_path).stdout
    assert "…" not in said
    assert "losses" in said


# -- colours --


def test_colours_are_for_terminals_that_want_them(log: Path, tmp_path: Path) -> None:
    args = ["verify", "--rules", "--dir", log]
    assert COLOURS.search(on_terminal(*args, cwd=tmp_path))
    assert not COLOURS.search(on_terminal(*args, cwd=tmp_path, NO_COLOR="1"))
    assert not ESCAPES.search(on_terminal(*args, cwd=tmp_path, TERM="dumb"))
    assert "\x1b" not in tradetrail(*args, cwd=tmp_path).stdout
    assert COLOURS.search(tradetrail(*args, cwd=tmp_path, FORCE_COLOR="1").stdout)
    assert not COLOURS.search(tradetrail(*args, cwd=tmp_path, FORCE_COLOR="1", NO_COLOR="1").stdout)


@pytest.mark.parametrize("args", [["--help"], ["load", "--help"]], ids=" ".join)
def test_help_has_no_colours_off_a_terminal(args: list[str]) -> None:
    assert COLOURS.search(on_terminal(*args))
    assert not COLOURS.search(on_terminal(*args, NO_COLOR="1"))
    assert "\x1b" not in tradetrail(*args).stdout


# -- progress --

SLOW = "SELECT count(*) AS n FROM range(20000) AS a, range(20000) AS b WHERE a.range * b.range % 7 = 3"


def test_a_query_that_takes_long_shows_how_far_it_is(log: Path, tmp_path: Path) -> None:
    said = on_terminal("query", "--dir", log, SLOW, cwd=tmp_path)
    assert "reading the log" in said
    assert re.search(r"\d:\d\d", said)
    assert shown(said)[-1].strip() == "1 row"
    assert said.rindex("\x1b[?25h") < said.rindex("1 row")  # the cursor is back before the answer comes


def test_a_load_that_takes_long_shows_rate_and_time_left(big: Path, dsn: str, tmp_path: Path) -> None:
    said = on_terminal("load", "--dir", big, "--dsn", dsn, "--batch-bytes", "200000", cwd=tmp_path)
    assert re.search(r"loading .*MB of .*MB, .*[KM]B/s.* \d:\d\d left", ESCAPES.sub("", said))


def test_nothing_is_drawn_where_a_line_cannot_be_drawn_anew(log: Path, tmp_path: Path) -> None:
    assert "reading the log" not in on_terminal("query", "--dir", log, SLOW, cwd=tmp_path, TERM="dumb")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    directory = tmp_path / "big"
    directory.mkdir()
    with AuditLog(directory, service="bot") as audit:
        for n in range(12_000):
            audit.event("bot.noted", n=n, text="x" * 300)
            if n % 1000 == 999:
                audit.flush()
    return directory


# -- completion --


@pytest.fixture(scope="module")
def bash() -> str:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("there is no bash")
    return found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tradetrail lo", "load"),
        ("tradetrail rejects re", "retry"),
        ("tradetrail load --ds", "--dsn"),
        ("tradetrail metrics --by mo", "month"),
        ("tradetrail metrics --source ", "logs db"),
        ("tradetrail verify --ignore ho", "hole hole_in_database"),
        ("tradetrail rejects list --severity rej", "rejected"),
        ("tradetrail completion f", "fish"),
        ("tradetrail load --dir va", ""),  # the shell's own: a path
    ],
)
def test_bash_completes_commands_options_and_values(bash: str, line: str, words: str) -> None:
    script = """
        eval "$(tradetrail completion bash)"
        complete -p tradetrail >/dev/null || exit 9
        read -ra COMP_WORDS <<< "$1"
        [[ $1 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
        _tradetrail_completion tradetrail
        echo "${COMPREPLY[*]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script, "bash", line],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(PATH=f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == words.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_scripts(shell: str) -> None:
    script = tradetrail("completion", shell).stdout
    assert f"_TRADETRAIL_COMPLETE=complete_{shell}" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=60)
