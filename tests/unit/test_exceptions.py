"""Exceptions as fields of a record."""

from __future__ import annotations

import builtins
import linecache
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emitter import AuditLog
from emitter.exceptions import with_error
from emitter.testing import captured_records


@pytest.fixture
def audit_log(tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(tmp_path / "audit", service="test", ring_bytes=1024 * 1024) as log:
        yield log


def fail(words: str = "no margin") -> None:
    raise ValueError(words)


def test_an_exception_is_told_with_its_causes(audit_log: AuditLog) -> None:
    try:
        try:
            fail()
        except ValueError as cause:
            raise RuntimeError("order failed") from cause
    except RuntimeError as error:
        audit_log.event("order.failed", severity="ERROR", exc_info=error, order_id="7", position_id="pending")
        audit_log.event("order.failed", exc_info=True)
        audit_log.event("order.failed", exc_info=sys.exc_info())
    audit_log.event("order.failed", exc_info=True)  # none is being handled by now
    given, handled, told, none = captured_records(audit_log)
    assert given["severity_text"] == "ERROR"
    assert given["attributes"]["error_message"] == "RuntimeError: order failed"
    trace = given["attributes"]["stack_trace"].splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "RuntimeError: order failed"
    assert "ValueError: no margin" in trace
    assert "The above exception was the direct cause of the following exception:" in trace
    assert sum(", in fail" in line for line in trace) == 1
    assert given["attributes"]["order_id"] == "7"
    for other in (handled, told):
        assert other["attributes"] == {name: given["attributes"][name] for name in ("error_message", "stack_trace")}
    assert none["attributes"] == {}


def test_what_the_call_says_itself_stays(audit_log: AuditLog) -> None:
    audit_log.event("order.failed", exc_info=ValueError("a"), error_message="said by hand")
    (record,) = captured_records(audit_log)
    assert record["attributes"] == {"error_message": "said by hand", "stack_trace": "ValueError: a\n"}


def test_no_file_is_opened_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    linecache.clearcache()
    opened: list[Any] = []
    monkeypatch.setattr(builtins, "open", lambda *args, **_: opened.append(args))
    monkeypatch.setattr("tokenize.open", lambda *args, **_: opened.append(args))
    try:
        fail()
    except ValueError as error:
        fields = with_error({}, error)
    assert ", in fail" in fields["stack_trace"]
    assert opened == []


def test_lines_of_code_that_are_in_memory_are_told() -> None:
    linecache.getlines(__file__)
    try:
        fail()
    except ValueError as error:
        fields = with_error({}, error)
    assert "    raise ValueError(words)\n" in fields["stack_trace"]


def test_groups_and_circles() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    try:
        raise ExceptionGroup("both", [first, second])
    except ExceptionGroup as error:
        trace = with_error({}, error)["stack_trace"]
    assert "ExceptionGroup: both (2 sub-exceptions)" in trace
    assert "ValueError: a" in trace
    assert "ValueError: b" in trace


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Odd:
    def __bool__(self) -> bool:
        raise RuntimeError


@pytest.mark.parametrize("odd", [Odd(), (1,), (), 5, "text", {}, [], Unspeakable(), type])
def test_it_raises_nothing(audit_log: AuditLog, odd: Any) -> None:
    assert audit_log.event("order.failed", exc_info=odd, order_id="7") == 1
    (record,) = captured_records(audit_log)
    assert record["attributes"]["order_id"] == "7"
    assert ("error_message" in record["attributes"]) == isinstance(odd, Unspeakable)


def test_a_recursion_without_end_is_told_shortly(tmp_path: Path) -> None:
    code = (
        "from emitter.exceptions import with_error\n"
        "def again(n): again(n + 1)\n"
        "try: again(0)\n"
        "except RecursionError as error: print(len(with_error({}, error)['stack_trace']) < 3000)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "True\n"
