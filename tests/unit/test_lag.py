"""The lag: what waits, and how long that has been known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.segments import SegmentName
from loader.lag import Key, Lag, Waiting, whole_lines
from loader.tail import Progress, Tail
from tests.lines import OTHER_STREAM, STREAM, segment

A: Key = (STREAM, 1)
B: Key = (OTHER_STREAM, 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ledger(**bytes_: int) -> dict[Key, Progress]:
    return {{"a": A, "b": B}[name]: Progress(loaded, False, None) for name, loaded in bytes_.items()}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> Lag:
    return Lag(clock)


def test_nothing_seen_is_no_lag(lag: Lag) -> None:
    assert lag.waiting == Waiting(0, None)
    assert lag.seconds == 0


def test_the_oldest_bytes_count(lag: Lag, clock: Clock) -> None:
    lag.look({A: 100}, ledger())
    clock.now = 1010
    lag.look({A: 150, B: 30}, ledger())
    clock.now = 1015
    assert (lag.waiting.bytes, lag.seconds) == (180, 15)
    lag.settle(ledger(a=99))
    assert (lag.waiting.bytes, lag.seconds) == (81, 15)
    lag.settle(ledger(a=100))
    assert (lag.waiting.bytes, lag.seconds) == (80, 5)
    lag.settle(ledger(a=150, b=30))
    assert (lag.waiting.bytes, lag.seconds) == (0, 0)


def test_bytes_that_keep_coming_are_not_old(lag: Lag, clock: Clock) -> None:
    """A loader that is always a little behind waits for little, however long that goes on."""
    for second in range(100):
        clock.now = 1000.0 + second
        lag.look({A: 10 * (second + 1)}, ledger(a=10 * second))
        assert (lag.waiting.bytes, lag.seconds) == (10, 0)


def test_what_a_later_look_does_not_see_does_not_wait(lag: Lag, clock: Clock) -> None:
    """A file that was removed, or a part of it that a failed sync made void."""
    lag.look({A: 100, B: 50}, ledger())
    clock.now = 1010
    lag.look({A: 60}, ledger())
    assert lag.waiting.bytes == 60
    clock.now = 1020
    assert lag.seconds == 10
    lag.look({}, ledger())
    assert (lag.waiting.bytes, lag.seconds) == (0, 0)


def test_before_the_ledger_is_known_nobody_can_say_how_much(lag: Lag, clock: Clock) -> None:
    lag.look({}, None)
    assert lag.waiting == Waiting(0, None)
    lag.look({A: 100}, None)
    clock.now = 1005
    lag.look({A: 200}, None)
    assert lag.waiting.bytes is None
    assert lag.seconds == 5
    lag.settle(ledger(a=100))
    assert (lag.waiting.bytes, lag.seconds) == (100, 0)


def test_a_ledger_that_went_back_makes_bytes_wait_again(lag: Lag, clock: Clock) -> None:
    lag.look({A: 100}, ledger())
    lag.settle(ledger(a=100))
    clock.now = 1010
    lag.look({A: 100}, ledger())
    clock.now = 1011
    assert (lag.waiting.bytes, lag.seconds) == (100, 1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=400), st.integers(0, 2000))
def test_days_of_looks_cost_no_memory_and_never_say_too_little(looks: list[tuple[int, int]], loaded: int) -> None:
    clock = Clock()
    lag = Lag(clock)
    end, first_seen = 0, {}
    for grown, passed in looks:
        clock.now += passed
        first_seen.update(dict.fromkeys(range(end, end + grown), clock.now))
        end += grown
        lag.look({A: end}, ledger())
    assert len(lag._marks.get(A, ())) <= 65
    lag.settle(ledger(a=loaded))
    assert lag.waiting.bytes == max(0, end - loaded)
    truth = clock.now - first_seen[loaded] if loaded < end else 0
    assert lag.seconds >= truth
    if len(looks) < 64:
        assert lag.seconds == truth


@pytest.mark.parametrize("tail", [b"", b"{", b"x" * 10_000])
def test_only_whole_lines_count(tmp_path: Path, tail: bytes) -> None:
    path = segment(tmp_path / "audit", [b"{}\n", b"y" * 9000 + b"\n"], closed=False, tail=tail)
    size = path.stat().st_size
    header = path.read_bytes().index(b"\n") + 1
    assert whole_lines(Tail(path.parent), {}) == {A: size - len(tail)}
    done = {A: Progress(header, False, None)}
    assert whole_lines(Tail(path.parent), done) == {A: size - len(tail)}
    all_ = {A: Progress(size - len(tail), False, None)}
    assert whole_lines(Tail(path.parent), all_) == ({A: size - len(tail)} if tail else {})


def test_a_file_that_cannot_be_read_does_not_wait(tmp_path: Path) -> None:
    path = segment(tmp_path, [b"{}\n"], closed=False)
    tail = Tail(tmp_path)
    assert set(whole_lines(tail, {})) == {A}
    path.unlink()
    path.symlink_to(tmp_path / str(SegmentName.of("hand", OTHER_STREAM, 1)))
    assert whole_lines(tail, {}) == {}
