"""``audit.context(...)``: who inherits its fields, who does not, and that leaving it never goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from emitter import AuditLog, AuditRepository
from emitter.testing import captured_records

SMALL: dict[str, Any] = {"ring_bytes": 64 * 1024, "service": "fox-bot", "flush_interval_ms": 1}


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(tmp_path / "audit", **SMALL) as opened:
        yield opened


@pytest.fixture(autouse=True)
def plain_structlog() -> Iterator[None]:
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(audit: AuditLog) -> list[dict[str, Any]]:
    return [record["attributes"] for record in captured_records(audit)]


def test_all_kinds_of_records_within_it_have_its_fields(audit: AuditLog) -> None:
    with audit.context(position_id=55, signal_id=4711):
        audit.order(order_id="1")
        audit.update_order(order_id="1", status="CANCELED")
        audit.trade(order_id="1")
        audit.event("position.opened")
    audit.event("bot.noted")
    assert written(audit) == [
        {"position_id": 55, "signal_id": 4711, "order_id": "1"},
        {"position_id": 55, "signal_id": 4711, "order_id": "1", "status": "CANCELED"},
        {"position_id": 55, "signal_id": 4711, "order_id": "1"},
        {"position_id": 55, "signal_id": 4711},
        {},
    ]


def test_who_is_nearer_wins(audit: AuditLog) -> None:
    structlog.contextvars.bind_contextvars(a="structlog", b="structlog", c="structlog", d="structlog", e="structlog")
    bound = audit.bind(d="bound", e="bound")
    with audit.context(b="outer", c="outer", d="outer", e="outer"), bound.context(c="inner", d="inner", e="inner"):
        bound.event("x", e="given")
    assert written(audit) == [{"a": "structlog", "b": "outer", "c": "inner", "d": "bound", "e": "given"}]


def test_none_takes_back_what_an_outer_one_says(audit: AuditLog) -> None:
    with audit.context(position_id=55, signal_id=4711), audit.context(signal_id=None):
        audit.event("x")
    assert written(audit) == [{"position_id": 55}]


def test_it_gives_the_log_and_ends_with_an_exception_that_it_lets_through(audit: AuditLog) -> None:
    bound = audit.bind(exchange="bybit")

    def fail() -> None:
        with bound.context(position_id=55) as log:
            assert log is bound
            log.event("before")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    audit.event("after")
    assert written(audit) == [{"position_id": 55, "exchange": "bybit"}, {}]


def test_one_may_be_entered_again_and_within_itself(audit: AuditLog) -> None:
    context = audit.context(position_id=55)
    for _ in range(2):
        with context:
            with context:
                audit.event("x")
            audit.event("x")
        audit.event("x")
    assert written(audit) == [{"position_id": 55}, {"position_id": 55}, {}] * 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=16))
def test_in_whatever_order_they_are_left_what_stands_is_what_is_entered(steps: list[tuple[bool, int]]) -> None:
    """Beside a plain list of what is entered."""

    def play() -> None:
        standing: list[int] = []
        contexts = [log.context(**{f"n{n}": n}) for n in range(4)]
        for enter, n in steps:
            if enter == (n in standing):
                continue
            if enter:
                contexts[n].__enter__()
                standing.append(n)
            else:
                contexts[n].__exit__()
                standing.remove(n)
            assert log._inherited() == {f"n{n}": n for n in standing}

    log = AuditLog(disabled=True)
    contextvars.Context().run(play)


def test_leaving_what_was_not_entered_changes_nothing(audit: AuditLog) -> None:
    with audit.context(position_id=55):
        audit.context(position_id=56).__exit__(None, None, None)
        audit.event("x")
    assert written(audit) == [{"position_id": 55}]


def test_afterwards_a_call_finds_no_variable_to_look_at(audit: AuditLog) -> None:
    def block() -> int:
        with audit.context(position_id=55), audit.context(signal_id=4711):
            pass
        return len(contextvars.copy_context())

    assert contextvars.Context().run(block) == 0


# -- tasks, generators, threads --


async def test_tasks_inherit_it_and_do_not_mix(audit: AuditLog) -> None:
    async def step(n: int) -> None:
        await asyncio.sleep(0)
        audit.event("step", n=n)

    async def position(n: int) -> None:
        async with audit.context(position_id=n):
            async with asyncio.TaskGroup() as deeper:
                for _ in range(3):
                    deeper.create_task(step(n))
            await asyncio.to_thread(audit.event, "thread", n=n)

    with audit.context(signal_id=4711):
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(position(n))
        audit.event("end", n=None)
    found = written(audit)
    assert len(found) == 81
    assert found.pop() == {"signal_id": 4711}
    assert all(fields == {"signal_id": 4711, "position_id": fields["n"], "n": fields["n"]} for fields in found)


async def test_a_task_keeps_what_it_began_with(audit: AuditLog) -> None:
    go_on = asyncio.Event()

    async def late() -> None:
        await go_on.wait()
        audit.event("late")

    with audit.context(position_id=55):
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    go_on.set()
    await task
    assert written(audit) == [{"position_id": 55}]


async def test_a_generator_may_be_ended_in_another_task_than_it_began_in(audit: AuditLog) -> None:
    async def prices() -> AsyncGenerator[int, None]:
        with audit.context(position_id=55):
            yield 1
            yield 2

    async def begin() -> AsyncGenerator[int, None]:
        stream = prices()
        await anext(stream)
        return stream

    stream = await asyncio.create_task(begin())
    with audit.context(position_id=56):
        await stream.aclose()
        audit.event("x")
    audit.event("y")
    assert written(audit) == [{"position_id": 56}, {}]


def test_generators_that_take_turns_leave_nothing_behind(audit: AuditLog) -> None:
    def steps(n: int) -> Iterator[None]:
        with audit.context(**{f"n{n}": n}):
            yield
            yield

    both = [steps(1), steps(2)]
    for generator in both * 3:
        next(generator, None)
    audit.event("x")
    unfinished = steps(3)
    next(unfinished)
    del unfinished
    gc.collect()
    audit.event("y")
    assert written(audit) == [{}, {}]


def test_a_thread_inherits_it_where_it_is_given_the_context(audit: AuditLog) -> None:
    with audit.context(position_id=55):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=audit.event, args=("plain",)),
            threading.Thread(target=context.run, args=(audit.event, "copied")),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert written(audit) == [{}, {"position_id": 55}]


# -- who else there is --


def test_another_log_and_the_bots_own_stay_as_they_are(audit: AuditLog, tmp_path: Path) -> None:
    shown = io.StringIO()
    own = structlog.wrap_logger(
        structlog.PrintLogger(shown),
        [audit.processor, structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(sort_keys=True)],
        wrapper_class=structlog.BoundLogger,
    )
    with AuditLog(tmp_path / "other", **SMALL) as other:
        with audit.context(position_id=55), structlog.contextvars.bound_contextvars(request="r"):
            other.event("x")
            own.info("position.opened", audit=True)
        assert written(other) == [{"request": "r"}]
    assert written(audit) == [{"request": "r", "position_id": 55}]
    assert shown.getvalue() == '{"audit": true, "event": "position.opened", "request": "r"}\n'


def test_processors_of_the_trail_see_its_fields_once(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def take_away(_: Any, __: str, event: Any) -> Any:
        seen.append(dict(event))
        del event["secret"]
        return event

    with AuditLog(tmp_path / "audit", processors=[take_away], **SMALL) as audit:
        with audit.context(position_id=55, secret="x"):
            audit.event("x")
        assert seen == [{"event": "x", "position_id": 55, "secret": "x"}]
        assert written(audit) == [{"position_id": 55}]


async def test_a_repository_inherits_it_also_where_a_dict_lists_every_column(audit: AuditLog) -> None:
    repository = AuditRepository(audit)
    with audit.context(position_id=55, exchange="bybit", symbol="MNTUSDT"):
        number = await repository.create_order({"position_id": None, "order_id": "1", "exchange": None})
    await repository.update_order(number, status="CANCELED")
    created, updated = written(audit)
    assert created == {"position_id": 55, "exchange": "bybit", "symbol": "MNTUSDT", "order_id": "1"}
    assert updated == {
        "exchange": "bybit", "symbol": "MNTUSDT", "order_id": "1", "status": "CANCELED", "repository_id": number,
    }  # fmt: skip


LINKS = {"position_id": 55, "exchange": "bybit", "symbol": "MNT/USDT:USDT"}


def test_a_position_keeps_the_links_of_where_it_was_made(audit: AuditLog) -> None:
    with audit.context(**LINKS, signal_id=4711, attempt=1):
        position = audit.position(side="buy")
        position.entry_filled(order_id="1", filled=2, price=3)
    with audit.context(attempt=2):
        position.exit_filled(order_id="2", filled=2, price=4)
    entry, bought, leave, sold = captured_records(audit)
    assert [record["event_name"] for record in (entry, bought, leave, sold)] == ["order.created", "trade.executed"] * 2
    for record in (entry, bought):
        assert record["attributes"].items() >= {**LINKS, "signal_id": 4711, "attempt": 1}.items()
    assert leave["attributes"].items() >= {**LINKS, "attempt": 2}.items()
    assert sold["attributes"].items() >= {**LINKS, "signal_id": 4711, "attempt": 2}.items()


def test_what_is_bound_or_given_is_the_positions_before_what_a_context_says(audit: AuditLog) -> None:
    with audit.context(position_id=1, exchange="context", symbol="context", signal_id=1):
        position = audit.bind(exchange="bound", signal_id=2).position(position_id=3, side="buy")
    position.entry_filled(order_id="1", filled=2, price=3)
    for record in captured_records(audit, "order.created", "trade.executed"):
        wanted = {"position_id": 3, "exchange": "bound", "symbol": "context", "signal_id": 2}
        assert record["attributes"].items() >= wanted.items()
