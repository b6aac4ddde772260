"""What an editor completes and a type checker refuses: held to the contract, and tried with mypy itself."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog, fields, typed
from emitter.records import EVENT, KINDS, ORDER, ORDER_UPDATE, SEVERITY_NUMBERS, TRADE, FieldType, Kind

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "sql" / "load" / "rules.sql").read_text()
CALLS = {
    ORDER: ("order", fields.OrderFields),
    ORDER_UPDATE: ("update_order", fields.OrderUpdateFields),
    TRADE: ("trade", fields.TradeFields),
    EVENT: ("event", fields.EventFields),
}
# The types that a field of each sort may have.
SORTS: dict[FieldType, tuple[Any, ...]] = {
    "text": (fields.Text, fields.Id, fields.Side, fields.OrderType, fields.Status),
    "number": (fields.Number,),
    "integer": (fields.Id,),
    "boolean": (bool | None,),
    "time": (fields.Time,),
    "fee": (fields.Fee,),
    "fees": (fields.Fees,),
}


def kind_id(kind: Kind) -> str:
    return kind.name


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_each_field_of_the_contract_has_its_type(kind: Kind) -> None:
    hints = typing.get_type_hints(CALLS[kind][1])
    beside = list(typing.get_type_hints(fields.RecordFields))
    assert sorted(hints) == sorted([field.name for field in kind.fields] + beside)
    for field in kind.fields:
        assert hints[field.name] in SORTS[field.type], field


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_the_calls_have_the_same_fields_by_name(kind: Kind) -> None:
    name, dict_type = CALLS[kind]
    seen = getattr(typed.TypedCalls, name)
    hints = typing.get_type_hints(seen)
    assert hints.pop("return") is int
    assert hints.pop("more") is Any
    if kind is EVENT:
        assert hints.pop("name") is str
        assert hints.pop("severity") == fields.Severity
        assert hints.pop("exc_info") == fields.ExcInfo
    assert hints == typing.get_type_hints(dict_type)
    parameters = inspect.signature(seen).parameters.values()
    assert all(p.default is None for p in parameters if p.name in hints)
    real = getattr(AuditLog, name)
    assert inspect.getdoc(real) == inspect.getdoc(seen)
    assert not issubclass(AuditLog, typed.TypedCalls)


def words(type_: Any) -> set[str]:
    """The words of a ``Literal`` within a type."""
    if typing.get_origin(type_) is typing.Literal:
        return set(typing.get_args(type_))
    return set().union(*(words(part) for part in typing.get_args(type_)))


@pytest.mark.parametrize(
    ("type_", "rule"), [(fields.Side, "side"), (fields.OrderType, "type"), (fields.Status, "status")]
)
def test_the_words_that_are_offered_are_known_to_the_loader(type_: Any, rule: str) -> None:
    known = re.search(rf"^(?:upper|lower)\({rule}\) NOT IN \((.*?)\)$", RULES, re.MULTILINE | re.DOTALL)
    assert known
    assert set() < words(type_) <= set(re.findall(r"'(\w+)'", known[1]))


def test_the_severities_are_opentelemetrys() -> None:
    assert words(fields.Severity) == set(SEVERITY_NUMBERS)


RIGHT = """
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from emitter import AuditLog, AuditRepository
from emitter.fields import OrderFields

class Side(Enum):
    BUY = "buy"

def trade(audit: AuditLog, repository: AuditRepository, answer: dict[str, Any]) -> int:
    order: OrderFields = {"exchange": "bybit", "symbol": "MNT/USDT:USDT", "side": "sell", "price": Decimal("2.1")}
    seq: int = audit.order(**order)
    audit.order(side="buy", type="MARKET", status="SOMETHING NEW", price="2.1118", size=94, strategy="fox")
    audit.order(side=Side.BUY, price=None, fee={"cost": 1, "currency": "USDT"}, created_at=datetime.now(UTC))
    audit.update_order(order_id=1002, status="CANCELED", reason="trailing stop", timestamp=1700000000000)
    audit.trade(signal_id="unknown", price=2.1, executed_qty=Decimal(1), estimated=True, fees=[{"cost": 1}])
    audit.event("position.closed", severity="WARN", position_id="pending", anything=object())
    audit.order(**answer)
    with audit.context(position_id=55, signal_id=4711) as log:
        log.position(side="long", quantity="94.7").entry_filled(answer)
    return seq

async def drop_in(repository: AuditRepository, order: OrderFields, row: dict[str, Any]) -> int:
    number: int = await repository.create_order(order) or await repository.create_order(row)
    await repository.update_order(number, status="CANCELED", whatever=1)
    return await repository.create_trade({"exchange": "bybit", "side": "sell", "of_its_own": 1})
"""
WRONG = """
from datetime import UTC, datetime

from emitter import AuditLog
from emitter.fields import OrderFields

def trade(audit: AuditLog) -> None:
    audit.order(price=[2.1118])
    audit.order(side=1)
    audit.update_order(price=datetime.now(UTC))
    audit.trade(executed_qty=b"1")
    audit.trade(estimated="yes")
    audit.event("x", severity=9)
    audit.position(quantity=[1])
    order: OrderFields = {"prize": 2.1118}
"""


def test_mypy_takes_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    # Of the packages themselves nothing is reported: `make type` looks at them.
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-emitter.*]\nfollow_imports = silent\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-color-output", "--no-error-summary", "right.py", "wrong.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert [(file, int(line)) for file, line, _ in found] == [("wrong.py", line) for line in range(8, 16)], done.stdout
    assert "expected" in found[0][2]
