"""structlog: what is bound, processors of the trail's own, and the trail as a processor in a bot's chain."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import CapturingLogger

from emitter import AuditLog, SettingError

from ..trail import only

SMALL: dict[str, Any] = {"ring_bytes": 64 * 1024, "service": "fox-bot", "flush_interval_ms": 2}
ORDER: dict[str, Any] = {
    "exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7", "type": "MARKET", "side": "sell", "status": "FILLED",
}  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def audit(log: Path) -> Iterator[AuditLog]:
    with AuditLog(log, **SMALL) as opened:
        yield opened


@pytest.fixture(autouse=True)
def plain_structlog() -> Iterator[None]:
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def records(audit: AuditLog, log: Path) -> list[dict[str, Any]]:
    assert audit.flush()
    return only(log).check(finished=False).records


def fields(audit: AuditLog, log: Path) -> list[dict[str, Any]]:
    return [record["attributes"] for record in records(audit, log)]


def bare(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between two calls."""
    past = "observed_timestamp" in record
    left_out = {"stream", "seq", "observed_timestamp" if past else "timestamp"}
    return {"past": past, **{name: value for name, value in record.items() if name not in left_out}}


# -- bind and its like, beside structlog's own --

names = st.sampled_from(["position_id", "symbol", "side", "a", "b"])
values = st.integers(0, 9)
steps = st.one_of(
    st.tuples(st.sampled_from(["bind", "new", "bind_contextvars"]), st.dictionaries(names, values, max_size=3)),
    st.tuples(st.sampled_from(["unbind", "unbind_contextvars", "try_unbind"]), st.lists(names, max_size=2)),
    st.tuples(st.just("clear_contextvars"), st.just(())),
    st.tuples(st.just("log"), st.dictionaries(names, values, max_size=3)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=12))
def test_bound_fields_are_those_of_a_structlog_logger(sequence: list[tuple[str, Any]]) -> None:
    structlog.contextvars.clear_contextvars()
    sink = CapturingLogger()
    chain = [structlog.contextvars.merge_contextvars, lambda _, __, event: ((), event)]
    with tempfile.TemporaryDirectory() as folder, AuditLog(folder, **SMALL) as audit:
        ours: Any = audit
        theirs: Any = structlog.wrap_logger(sink, chain, wrapper_class=structlog.BoundLogger).bind()
        for step, what in [*sequence, ("log", {})]:
            if step == "log":
                ours.event("x", **what)
                theirs.info("x", **what)
            elif step == "clear_contextvars":
                structlog.contextvars.clear_contextvars()
            elif step.endswith("contextvars"):
                do = getattr(structlog.contextvars, step)
                do(**what) if isinstance(what, dict) else do(*what)
            elif step in {"bind", "new"}:
                ours, theirs = getattr(ours, step)(**what), getattr(theirs, step)(**what)
            else:  # structlog's unbind raises where a name is not bound, and no call of ours does
                ours, theirs = getattr(ours, step)(*what), theirs.try_unbind(*what)
            assert structlog.get_context(ours) == structlog.get_context(theirs)
        found = fields(audit, Path(folder))
    structlog.contextvars.clear_contextvars()
    assert found == [{k: v for k, v in call.kwargs.items() if k != "event"} for call in sink.calls]


# -- the short path and structlog's write the same --

fields_given = st.dictionaries(
    st.one_of(
        st.sampled_from([*ORDER, "position_id", "price", "fee", "api_key", "trace_id", "timestamp"]),
        st.text(min_size=1, max_size=8),
    ).filter(lambda name: name not in {"event", "audit", "exc_info", "stack_info", "severity", "self"}),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.decimals(),
        st.text(max_size=20),
        st.binary(max_size=5),
        st.datetimes(min_value=datetime(2020, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.lists(st.integers(), max_size=3),
        st.dictionaries(st.sampled_from(["cost", "currency", "secret"]), st.text(max_size=5), max_size=2),
    ),
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["order.created", "order.updated", "trade.executed", "x"]), fields_given, fields_given)
def test_typed_calls_processors_and_a_bots_chain_write_the_same(
    event: str, bound: dict[str, Any], given_fields: dict[str, Any]
) -> None:
    def unchanged(_: Any, __: str, event_dict: Any) -> Any:
        return event_dict

    # A text that means a time and says no zone is, in a bot's chain, a TimeStamper's; see below.
    both = {**bound, **given_fields}
    if isinstance(both.get("timestamp"), str):
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as other,
        AuditLog(folder, **SMALL) as audit,
        AuditLog(other, **SMALL, processors=[unchanged]) as processed,
    ):
        short = {
            "order.created": AuditLog.order, "order.updated": AuditLog.update_order, "trade.executed": AuditLog.trade,
        }.get(event, lambda trail, **more: trail.event(event, **more))  # fmt: skip
        for trail in (audit, processed):
            assert short(trail.bind(**bound), **given_fields) == 1
        chain = structlog.wrap_logger(CapturingLogger(), [audit.processor, unchanged_end])
        chain.bind(**bound)._proxy_to_logger("info", event, audit=True, **given_fields)
        typed, in_chain = records(audit, Path(folder))
        (through,) = records(processed, Path(other))
        assert audit.stats().last_error is None
        assert processed.stats().last_error is None
    assert bare(typed) == bare(through)
    assert bare(typed) == bare(in_chain)


def unchanged_end(_: Any, __: str, event_dict: Any) -> Any:
    return (), dict(event_dict)


# -- processors of the trail's own --


def test_processors_see_and_change_what_is_written(log: Path) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def look(_: Any, method: str, event_dict: Any) -> Any:
        seen.append((method, dict(event_dict)))
        return event_dict

    def change(_: Any, __: str, event_dict: Any) -> Any:
        event_dict.pop("strategy", None)
        event_dict.pop("note", None)
        return {**event_dict, "added": 1, "event": event_dict["event"].replace("old", "new")}

    with (
        AuditLog(log, **SMALL, processors=[look, change]) as audit,
        structlog.contextvars.bound_contextvars(strategy="s"),
    ):
        assert audit.bind(note="n").order(**ORDER) == 1
        assert audit.event("old.name", severity="WARN", event="a field") == 2
        assert audit.event("x", severity="fatal") == 3
        found = records(audit, log)
    assert [method for method, _ in seen] == ["info", "warning", "critical"]
    assert seen[0][1] == {"strategy": "s", "note": "n", **ORDER, "event": "order.created"}
    assert [record["event_name"] for record in found] == ["order.created", "new.name", "x"]
    assert [record["severity_text"] for record in found] == ["INFO", "WARN", "FATAL"]
    assert [r["attributes"] for r in found] == [{**ORDER, "added": 1}, {"event": "a field", "added": 1}, {"added": 1}]


def test_structlogs_own_processors_fit(log: Path) -> None:
    chain: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.EventRenamer("message"),
        structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.PROCESS]),
    ]
    with AuditLog(log, **SMALL, processors=chain) as audit:
        assert audit.event("x", severity="ERROR") == 1
        (record,) = records(audit, log)
        assert audit.stats().last_error is None
    assert record["event_name"] == "x"
    assert record["attributes"].items() >= {"level": "error", "message": "x"}.items()
    assert record["timestamp"].endswith("Z")


def test_a_dropped_record_has_no_seq(log: Path) -> None:
    def drop(_: Any, __: str, event_dict: Any) -> Any:
        if event_dict["event"] == "noise":
            raise structlog.DropEvent
        return event_dict

    with AuditLog(log, **SMALL, processors=[drop]) as audit:
        assert [audit.event("x"), audit.event("noise"), audit.event("y")] == [1, 0, 2]
        assert audit.flush()
        stats = audit.stats()
    assert (stats.emitted, stats.written, stats.lost, stats.last_error) == (2, 2, 0, None)
    assert only(log).check().seqs == [1, 2]


def test_a_processor_that_fails_is_left_out(log: Path) -> None:
    def broken(_: Any, __: str, event_dict: Any) -> Any:
        event_dict.clear()
        raise RuntimeError("broken")

    def renders(_: Any, __: str, event_dict: Any) -> Any:
        return str(event_dict)

    def adds(_: Any, __: str, event_dict: Any) -> Any:
        return {**event_dict, "added": 1}

    for number, (odd, word) in enumerate([(broken, "raised RuntimeError"), (renders, "answered str")]):
        place = log.with_name(f"log{number}")
        with AuditLog(place, **SMALL, processors=[odd, adds]) as audit:
            assert audit.order(**ORDER) == 1
            assert fields(audit, place) == [{**ORDER, "added": 1}]
            assert word in str(audit.stats().last_error)


def test_what_is_no_processor_is_refused_at_the_start(log: Path) -> None:
    for wrong in (["x"], 5):
        with pytest.raises(SettingError, match="processors"):
            AuditLog(log, processors=wrong)  # type: ignore[arg-type]
    assert not log.exists()


# -- the trail as a processor --


def chain_of(audit: AuditLog, *more: Any, **settings: Any) -> tuple[Any, CapturingLogger]:
    sink = CapturingLogger()
    return structlog.wrap_logger(sink, [audit.processor, *more, unchanged_end], **settings), sink


def test_audit_events_go_into_the_trail_and_the_bots_log_stays_as_it_is(audit: AuditLog, log: Path) -> None:
    logger, sink = chain_of(audit)
    without = CapturingLogger()
    plain = structlog.wrap_logger(without, [unchanged_end])
    for bot in (logger, plain):
        bot.info("order.created", **ORDER)
        bot.info("started", version=1)
        bot.warning("position.closed", audit=True, position_id=55)
        bot.info("order.updated", audit=False, **ORDER)
        bot.info("trade.executed", audit="desk 7", price=Decimal("2.10"))
        bot.bind(position_id=1).error("x", audit=True, nested={"api_key": "hidden"})
        bot.info("y", audit="a field of the bot's own")
        bot.info(None, audit=True)
    assert sink.calls == without.calls
    found = records(audit, log)
    assert [(r["event_name"], r["severity_text"]) for r in found] == [
        ("order.created", "INFO"), ("position.closed", "WARN"), ("trade.executed", "INFO"), ("x", "ERROR"),
        ("None", "INFO"),
    ]  # fmt: skip
    assert [r["attributes"] for r in found] == [
        ORDER, {"position_id": 55}, {"audit": "desk 7", "price": "2.10"},
        {"position_id": 1, "nested": {"api_key": "***"}}, {},
    ]  # fmt: skip


@pytest.mark.parametrize("merged", [False, True])
def test_context_variables_stand_once_whether_the_chain_merges_them_or_not(
    audit: AuditLog, log: Path, merged: bool
) -> None:
    sink = CapturingLogger()
    merge = [structlog.contextvars.merge_contextvars] if merged else []
    logger = structlog.wrap_logger(sink, [*merge, audit.bind(desk=7, side="bound").processor, unchanged_end])
    with structlog.contextvars.bound_contextvars(strategy="s", symbol="wide"):
        logger.info("order.created", **ORDER)
    assert fields(audit, log) == [{"desk": 7, "strategy": "s", **ORDER}]


def test_a_cached_logger_keeps_its_trail(audit: AuditLog, log: Path) -> None:
    sink = CapturingLogger()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, audit.processor, unchanged_end],
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    logger = structlog.get_logger()
    for number in range(3):
        logger.info("order.created", **ORDER, number=number)
    assert [found["number"] for found in fields(audit, log)] == [0, 1, 2]
    assert len(sink.calls) == 3
    assert audit.close()
    logger.info("order.created", **ORDER)
    assert len(sink.calls) == 4
    assert audit.stats().lost_by_reason == {"closed": 1}


def test_beside_the_standard_library(audit: AuditLog, log: Path, caplog: pytest.LogCaptureFixture) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            audit.processor,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logger = structlog.get_logger("bot")
    with caplog.at_level(logging.INFO):
        logger.info("order.created", **ORDER)
        logger.debug("order.created", **ORDER)  # not the bot's log, not the trail
        try:
            raise ValueError("no margin")
        except ValueError:
            logger.exception("order.failed", audit=True, order_id="8")
    created, failed = records(audit, log)
    assert created["attributes"] == ORDER
    assert (failed["event_name"], failed["severity_text"]) == ("order.failed", "ERROR")
    assert failed["attributes"]["error_message"] == "ValueError: no margin"
    assert failed["attributes"]["stack_trace"].startswith("Traceback")
    assert set(failed["attributes"]) == {"order_id", "error_message", "stack_trace"}
    assert len(caplog.records) == 2


async def test_in_an_asynchronous_chain(audit: AuditLog, log: Path) -> None:
    logger, sink = chain_of(audit, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with structlog.contextvars.bound_contextvars(task=1):
        await logger.ainfo("order.created", **ORDER)
        await logger.adebug("order.created", **ORDER)
        await logger.awarning("x", audit=True)
    found = records(audit, log)
    assert [r["attributes"] for r in found] == [{"task": 1, **ORDER}, {"task": 1}]
    assert [r["severity_text"] for r in found] == ["INFO", "WARN"]
    assert len(sink.calls) == 2


def test_a_time_stampers_time_is_taken_only_where_it_says_its_zone(audit: AuditLog, log: Path) -> None:
    stamps: list[Any] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.TimeStamper(),
    ]
    for stamp in stamps:
        structlog.wrap_logger(CapturingLogger(), [stamp, audit.processor, unchanged_end]).info("order.created")
    now = datetime.now(UTC)
    found = records(audit, log)
    for record in found:
        assert abs((now - datetime.fromisoformat(record["timestamp"])).total_seconds()) < 60
    assert ["observed_timestamp" in record for record in found] == [True, False, False, True]
    assert [list(record["attributes"]) for record in found] == [[], ["logged_at"], ["timestamp"], []]


def test_nothing_is_raised_into_the_chain(audit: AuditLog, log: Path) -> None:
    class Odd:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError

        def __bool__(self) -> bool:
            raise RuntimeError

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    odd_dicts: list[Any] = [
        {"event": Odd(), "audit": True},
        {"event": "x", "audit": True, "exc_info": Odd()},
        {"event": "x", "audit": True, "exc_info": OddError()},
        {"event": "x", "audit": True, "exc_info": (1,)},
        {"event": ["unhashable"]},
        {5: 6, "event": "x", "audit": True},
        {},
        None,
    ]
    for event_dict in odd_dicts:
        assert audit.processor(None, "info", event_dict) is event_dict
    assert audit.processor(None, None, {"event": "order.created"}) == {"event": "order.created"}  # type: ignore[arg-type]
    assert records(audit, log)
    assert "audit.processor" in str(audit.stats().last_error)
