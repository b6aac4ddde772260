"""Lines with exact numbers, and what OpenTelemetry's JSON makes of them."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loader.exact import Literal, parse
from loader.otlp import log_record

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(NUMBERS, st.sampled_from(["[%s]", "[1, %s]", '{"a":%s}', '{"a": %s}', '[["x"],[%s]]', '{"a":[{},\n %s ]}']))
@example("9007199254740993", "[%s]")
@example("1e999999999", "[%s]")
@example("0." + "0" * 400 + "1", "[%s]")
@example("-" + "9" * 5000, "[%s]")
def test_no_number_changes_its_value(text: str, around: str) -> None:
    value, literals = parse((around % text).encode())
    while isinstance(value, list | dict):
        value = list(value.values() if isinstance(value, dict) else value)[-1]
    if type(value) is Literal:
        assert value == text
        assert len(literals) == 1
    else:
        assert literals == []
        assert Decimal(repr(value)) == Decimal(text)
        assert type(value) is type(json.loads(text))
        assert type(value) is float or -(2**63) <= value < 2**63


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**63), 2**63 - 1), st.lists))
def test_all_else_is_read_as_the_standard_library_reads_it(value: object) -> None:
    for ascii_only in (True, False):
        line = json.dumps([value, 1e300], ensure_ascii=ascii_only)  # the exponent sends it the long way
        assert parse(line.encode())[0] == [value, 1e300]


@pytest.mark.parametrize(
    "line", [b"", b"[", b"[NaN]", b"[1e5,NaN]", b'["\xff"]', b'[1e5,"\xff"]', b"[1e5," + b"[" * 10**5]
)
def test_what_is_no_json_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whose words are the readers'
        parse(line)


def test_a_record_in_opentelemetrys_json() -> None:
    line = {
        "stream": "0199e3c6a7b27c0e8d41c2f1a0b3d4e5", "seq": 18, "timestamp": "2026-11-20T08:00:00.000Z",
        "severity_text": "WARN", "severity_number": 13, "event_name": "position.closed",
        "attributes": {"n": 2**62, "x": 2.5, "ok": True, "none": None, "l": ["a", {"b": 1}], "body": "text"},
        "observed_timestamp": "2026-11-22T13:10:57.000001Z",
        "trace_id": "0AF7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "unencodable": ["x"],
    }  # fmt: skip
    assert log_record(line, ["/attributes/x"]) == {
        "timeUnixNano": "1795161600000000000",
        "observedTimeUnixNano": "1795353057000001000",
        "severityText": "WARN",
        "severityNumber": 13,
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "eventName": "position.closed",
        "body": {"stringValue": "text"},
        "attributes": [
            {"key": "log.record.uid", "value": {"stringValue": "0199e3c6a7b27c0e8d41c2f1a0b3d4e5:18"}},
            {"key": "tradetrail.seq", "value": {"intValue": "18"}},
            {"key": "tradetrail.unencodable", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
            {"key": "tradetrail.numbers", "value": {"arrayValue": {"values": [{"stringValue": "/attributes/x"}]}}},
            {"key": "n", "value": {"intValue": "4611686018427387904"}},
            {"key": "x", "value": {"doubleValue": 2.5}},
            {"key": "ok", "value": {"boolValue": True}},
            {"key": "none", "value": {}},
            {
                "key": "l",
                "value": {
                    "arrayValue": {
                        "values": [
                            {"stringValue": "a"},
                            {"kvlistValue": {"values": [{"key": "b", "value": {"intValue": "1"}}]}},
                        ]
                    }
                },
            },
        ],
    }
