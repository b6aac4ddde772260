"""``AuditRepository``: a number greater than 0 at once, whatever it is given, and updates that find their order."""

from __future__ import annotations

import asyncio
import copy
import types
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emitter import AuditLog, AuditRepository
from emitter.known_orders import KnownOrders
from emitter.testing import captured_records

from ..trail import only

SMALL: dict[str, Any] = {"ring_bytes": 1 << 20, "service": "fox-bot", "flush_interval_ms": 1}
ORDER: dict[str, Any] = {
    "position_id": "55", "exchange": "bybit", "symbol": "MNT/USDT:USDT", "order_id": "1001", "client_order_id": "c-1",
    "type": "MARKET", "side": "buy", "size": 94.7, "price": 2.1118, "status": "FILLED", "filled": 94.7, "remaining": 0,
    "fee": 0.11, "fee_currency": "USDT",
}  # fmt: skip
TRADE: dict[str, Any] = {
    "signal_id": 4711, "symbol": "MNT/USDT:USDT", "exchange": "bybit", "side": "buy", "order_type": "MARKET",
    "quantity": 94.7, "price": 2.1118, "executed_qty": 94.7, "average_price": 2.1118, "order_id": "1001",
    "client_order_id": "c-1", "status": "FILLED", "fee": 0.11, "fee_currency": "USDT",
}  # fmt: skip
GREATEST = 2**31 - 1


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(tmp_path / "audit", **SMALL) as opened:
        yield opened


@pytest.fixture
def repository(audit: AuditLog) -> AuditRepository:
    return AuditRepository(audit)


def written(audit: AuditLog, *names: str) -> list[dict[str, Any]]:
    return [record["attributes"] for record in captured_records(audit, *names)]


def at_once(call: Any) -> int:
    """What an awaitable returns that never waits: no event loop is needed for it."""
    with pytest.raises(StopIteration) as returned:
        call.send(None)
    answer = returned.value.value
    assert type(answer) is int
    assert answer > 0
    return answer


# -- what is written, and what comes back --


def test_the_dicts_of_the_plan_are_records_field_for_field(audit: AuditLog, repository: AuditRepository) -> None:
    assert [at_once(repository.create_order(ORDER)), at_once(repository.create_trade(TRADE))] == [1, 2]
    assert at_once(repository.update_order(1, status="CANCELED", filled=Decimal("94.70"))) == 3
    names = ("order.created", "trade.executed", "order.updated")
    assert [record["event_name"] for record in captured_records(audit)] == list(names)
    order, trade, update = written(audit)
    assert (order, trade) == (ORDER, TRADE)
    assert update == {
        "exchange": "bybit", "symbol": "MNT/USDT:USDT", "order_id": "1001", "client_order_id": "c-1",
        "status": "CANCELED", "filled": "94.70", "repository_id": 1,
    }  # fmt: skip


class Side(Enum):
    BUY = "buy"


class Status(StrEnum):
    NEW = "NEW"


class Columns:
    """As a database's record: it has keys and items, and is no Mapping."""

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def keys(self) -> Any:
        return self._columns.keys()

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


class Broken:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    __hash__ = None  # type: ignore[assignment]


def test_the_values_that_bots_really_give(audit: AuditLog, repository: AuditRepository) -> None:
    created = datetime(2026, 11, 22, 13, 10, tzinfo=UTC)
    at_once(repository.create_trade({**TRADE, "signal_id": "unknown", "order_id": None, "fee": None, "bot": "fox"}))
    at_once(repository.create_order({"side": Side.BUY, "status": Status.NEW, "size": Decimal("1e-9"), "price": 0,
                                     "created_at": created, 7: "seven", "7": "text", "api_key": "k"}))  # fmt: skip
    at_once(repository.create_order(OrderedDict(symbol="MNTUSDT")))
    at_once(repository.create_order(types.MappingProxyType({"symbol": "MNTUSDT"})))
    at_once(repository.create_order(Columns(symbol="MNTUSDT", price=None)))
    trade, order, *others = written(audit)
    assert trade == {**{k: v for k, v in TRADE.items() if k not in ("order_id", "fee")}, "signal_id": "unknown",
                     "bot": "fox"}  # fmt: skip
    assert order == {"side": "buy", "status": "NEW", "size": "1E-9", "price": 0, "created_at": "2026-11-22T13:10:00Z",
                     "7": "seven", "7'": "text", "api_key": "***"}  # fmt: skip
    assert others == [{"symbol": "MNTUSDT"}] * 3


def test_what_is_no_dict_is_kept_for_a_person_to_read(audit: AuditLog, repository: AuditRepository) -> None:
    odd: list[Any] = [None, 7, "1001", ["1001"], b"x", repeat(("a", 1)), Broken()]
    for thing in odd:
        at_once(repository.create_order(thing))
        at_once(repository.create_trade(thing))
        at_once(repository.update_order(thing, status=thing))
    assert len(captured_records(audit)) == 3 * len(odd)
    shown = [fields.get("given") for fields in written(audit, "order.created")]
    assert shown == [None, 7, "1001", ["1001"], "b'x'", "repeat(('a', 1))", "<Broken: cannot be read>"]


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=anything, trade=anything, order_id=anything, changes=st.dictionaries(st.text(), anything, max_size=3))
def test_nothing_raises(audit: AuditLog, order: Any, trade: Any, order_id: Any, changes: dict[str, Any]) -> None:
    repository, before = AuditRepository(audit), audit.stats().emitted
    changes = {name: value for name, value in changes.items() if name not in ("self", "order_id")}
    answers = [
        at_once(repository.create_order(order)),
        at_once(repository.create_trade(trade)),
        at_once(repository.update_order(order_id, **changes)),
    ]
    assert answers == [before + 1, before + 2, before + 3]


def test_without_a_record_another_number_stands_in(tmp_path: Path) -> None:
    for audit in (AuditLog(tmp_path / "closed", **SMALL), AuditLog(tmp_path / "disabled", disabled=True)):
        audit.close()
        repository = AuditRepository(audit)
        number = at_once(repository.create_order(ORDER))
        assert [number, at_once(repository.create_trade(TRADE))] == [GREATEST, GREATEST - 1]
        assert at_once(repository.update_order(number, status="CANCELED")) == GREATEST - 2
    assert audit.stats().emitted == 0


def test_an_order_that_was_dropped_is_still_known_by_its_number(tmp_path: Path) -> None:
    from structlog.exceptions import DropEvent

    def drop_orders(_: Any, __: str, event: Any) -> Any:
        if event["event"] == "order.created":
            raise DropEvent
        return event

    with AuditLog(tmp_path / "audit", processors=[drop_orders], **SMALL) as audit:
        repository = AuditRepository(audit)
        number = at_once(repository.create_order(ORDER))
        assert number == GREATEST
        assert at_once(repository.update_order(number, status="CANCELED")) == 1
        assert written(audit)[0]["order_id"] == "1001"


# -- which order an update is of --

PLACE = {"exchange": "bybit", "symbol": "MNT/USDT:USDT"}
OTHER = {**ORDER, "symbol": "BTC/USDT", "order_id": "2002"}


@pytest.mark.parametrize(
    ("order_id", "named"),
    [
        (2, {**PLACE, "order_id": "1001", "client_order_id": "c-1", "repository_id": 2}),
        ("1001", {**PLACE, "order_id": "1001"}),
        (1001, {**PLACE, "order_id": 1001}),
        ("2", {"order_id": "2"}),  # a text is never one of our numbers
        (77, {"order_id": 77}),
        (True, {"order_id": True}),
        (None, {}),
    ],
)
def test_an_order_is_named_by_our_number_or_the_exchanges_id(
    audit: AuditLog, repository: AuditRepository, order_id: Any, named: dict[str, Any]
) -> None:
    audit.event("bot.started")
    assert at_once(repository.create_order(ORDER)) == 2
    at_once(repository.create_order(OTHER))
    at_once(repository.update_order(order_id, status="CANCELED"))
    assert written(audit, "order.updated") == [{**named, "status": "CANCELED"}]
    known = "exchange" in named
    assert ("not known" in str(audit.stats().last_error)) != known


@pytest.mark.parametrize("way", ["changes", "bound", "context"])
def test_a_bot_that_started_again_says_exchange_and_symbol(audit: AuditLog, way: str) -> None:
    repository = AuditRepository(audit.bind(**PLACE) if way == "bound" else audit)
    with audit.context(**PLACE if way == "context" else {}):
        at_once(repository.update_order("1001", **PLACE if way == "changes" else {}, status="CANCELED"))
    assert written(audit) == [{**PLACE, "order_id": "1001", "status": "CANCELED"}]
    assert audit.stats().last_error is None


def test_what_an_update_says_wins_and_a_number_of_another_market_is_no_number(
    audit: AuditLog, repository: AuditRepository
) -> None:
    number = at_once(repository.create_order(ORDER))
    at_once(repository.update_order(number, client_order_id="c-2"))
    at_once(repository.update_order(number, symbol="BTC/USDT", exchange="bybit"))  # a number of the last run of the bot
    at_once(repository.update_order("1001", symbol="BTC/USDT"))
    first, second, third = written(audit, "order.updated")
    assert first["client_order_id"] == "c-2"
    assert second == {"order_id": number, "symbol": "BTC/USDT", "exchange": "bybit"}
    assert third == {"order_id": "1001", "symbol": "BTC/USDT"}


def test_an_order_learns_its_id_later(audit: AuditLog, repository: AuditRepository) -> None:
    number = at_once(repository.create_order({**ORDER, "order_id": None, "client_order_id": None}))
    at_once(repository.update_order(number, client_order_id="c-7", status="NEW"))
    at_once(repository.update_order(number, status="FILLED"))
    assert [fields["client_order_id"] for fields in written(audit, "order.updated")] == ["c-7", "c-7"]


def test_an_id_that_two_markets_use_names_neither(audit: AuditLog, repository: AuditRepository) -> None:
    """Binance's ids are unique in their market only."""
    at_once(repository.create_order(ORDER))
    at_once(repository.create_order({**ORDER, "status": "NEW"}))  # the same one again
    at_once(repository.update_order("1001", status="CANCELED"))
    at_once(repository.create_order({**OTHER, "order_id": "1001"}))
    at_once(repository.update_order("1001", status="CANCELED"))
    assert written(audit, "order.updated") == [
        {**PLACE, "order_id": "1001", "status": "CANCELED"},
        {"order_id": "1001", "status": "CANCELED"},
    ]


def test_what_is_remembered_is_bounded_and_what_is_used_stays() -> None:
    orders = KnownOrders(most=3)
    for number in range(1, 6):
        orders.add(number, {**PLACE, "order_id": f"o{number}"})
        if number == 3:
            assert orders.place_of("o1") == PLACE
    assert [n for n in range(7) if orders.numbered(n)] == [3, 4, 5]
    assert [n for n in range(7) if orders.place_of(f"o{n}")] == [1, 4, 5]


# -- beside a bot's own repository --


class Old:
    """A repository as bots have one."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self._orders: list[Any] = []

    async def create_order(self, order: Any) -> int:
        raise AssertionError("the trail takes these")

    async def create_position(self, position: Any) -> int:
        return 55

    async def open(self, order: Any) -> int:
        return await self.create_order(order)


class Mixed(AuditRepository, Old):
    def __init__(self, pool: str, audit: AuditLog) -> None:
        AuditRepository.__init__(self, audit)
        Old.__init__(self, pool)


def test_by_inheritance_the_old_ones_own_calls_reach_the_trail_too(audit: AuditLog) -> None:
    mixed = Mixed("pool", audit)
    assert (mixed.pool, mixed._orders) == ("pool", [])
    assert asyncio.run(mixed.create_position({})) == 55
    assert at_once(mixed.open(ORDER)) == 1
    assert at_once(mixed.update_order("1001", status="CANCELED")) == 2
    with pytest.raises(AttributeError, match="'Mixed' object has no attribute 'creat_order'"):
        _ = mixed.creat_order


def test_by_delegation_every_other_attribute_is_the_inner_ones(audit: AuditLog) -> None:
    old = Old("pool")
    repository = AuditRepository(audit, inner=old)
    assert at_once(repository.create_order(ORDER)) == 1
    assert asyncio.run(repository.create_position({})) == 55
    assert repository.pool == "pool"
    with pytest.raises(AttributeError, match="'Old' object has no attribute 'nothing'"):
        _ = repository.nothing
    assert type(copy.copy(repository)) is AuditRepository


def test_threads_may_share_one(audit: AuditLog, tmp_path: Path) -> None:
    repository = AuditRepository(audit)

    async def work(n: int) -> None:
        for k in range(200):
            number = await repository.create_order({**ORDER, "order_id": f"{n}-{k}"})
            await repository.update_order(number, status="CANCELED")

    async def all_of_them() -> None:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, work(n)) for n in range(4)))

    asyncio.run(all_of_them())
    assert len(captured_records(audit)) == 1600
    audit.close()
    records = {record["seq"]: record for record in only(tmp_path / "audit").check().records}
    for record in records.values():
        if record["event_name"] == "order.updated":
            created = records[record["attributes"]["repository_id"]]
            assert created["attributes"]["order_id"] == record["attributes"]["order_id"]
