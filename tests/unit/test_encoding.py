"""Any value becomes a line, and what had to be changed is said in it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitter.encoding import Encoder, heading
from emitter.redaction import Secrets
from emitter.settings import MIN_LINE_BYTES

from ..trail import strict

PREFIX = b'{"stream":"0199e3c6a7b27c0e8d41c2f1a0b3d4e5","seq":18446744073709551615'


def encode(
    fields: dict[str, Any], *, most: int = 65536, name: str = "x.done", severity: str = "INFO"
) -> dict[str, Any]:
    """The line of these fields, held to what every line keeps."""
    encoder = Encoder(["my_field"], most)
    Raising.encoding = True
    try:
        body = encoder.body(heading(name, severity).text, fields)
    finally:
        Raising.encoding = False
    line = PREFIX + body
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1
    assert not re.search(rb"(?<!\\)(\\\\)*\\u0000", body), "the escape; a backslash and u0000 are text"
    assert len(line) <= most
    return strict(line)


def attribute(value: Any) -> Any:
    return encode({"value": value})["attributes"]["value"]


class Side(str, Enum):  # noqa: UP042  what bots have
    BUY = "buy"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Fee:
    cost: Decimal
    currency: str
    api_key: str = "hidden"
    inner: Any = None


class Raising:
    encoding = False  # otherwise pytest and hypothesis could not show it

    def __repr__(self) -> str:
        if Raising.encoding:
            raise RuntimeError("no repr")
        return "Raising()"


class RaisingText(str):
    def __str__(self) -> str:
        if Raising.encoding:
            raise RuntimeError("no text")
        return "RaisingText"

    __repr__ = __str__


class RaisingMapping(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no items")


class LyingClass:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class RaisingDatetime(datetime):
    def isoformat(self, *args: Any) -> str:
        raise RuntimeError("no time")


class Plain:
    def __repr__(self) -> str:
        return "Plain\x00(\ud800)" if Raising.encoding else "Plain()"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("0.10"), "0.10"),
        (Decimal("94.700000000000000000000000001"), "94.700000000000000000000000001"),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("-1E-400"), "-1E-400"),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (0.1, 0.1),
        (1e300, 1e300),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (True, True),
        ("", ""),
        ("\\u0000", "\\u0000"),
        ("\U0001f600 \u2028 \x7f \x01", "\U0001f600 \u2028 \x7f \x01"),
        (datetime(2026, 11, 22, 13, 10, 56, 15378), "2026-11-22T13:10:56.015378Z"),  # noqa: DTZ001
        (datetime(2026, 11, 22, 13, 10, tzinfo=UTC), "2026-11-22T13:10:00Z"),
        (datetime(2026, 11, 22, 13, tzinfo=timezone(timedelta(hours=2))), "2026-11-22T13:00:00+02:00"),
        (date(2026, 11, 22), "2026-11-22"),
        (time(13, 10), "13:10:00"),
        (time(13, 10, tzinfo=UTC), "13:10:00Z"),
        (UUID("0199e3c6-a7b2-7c0e-8d41-c2f1a0b3d4e5"), "0199e3c6-a7b2-7c0e-8d41-c2f1a0b3d4e5"),
        (Side.BUY, "buy"),
        (Level.HIGH, 3),
        ({3}, [3]),
        (frozenset("a"), ["a"]),
        ((1, None, [2]), [1, None, [2]]),
        ({"a": None, "b": math.nan}, {"a": None, "b": "NaN"}),
        ([{"d": Decimal("1.50")}], [{"d": "1.50"}]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_values_that_are_exact_leave_no_word(value: Any, shown: Any, nested: bool) -> None:
    line = encode({"value": [value] if nested else value})
    assert line["attributes"] == {"value": [shown] if nested else shown}
    assert set(line) == {"stream", "seq", "timestamp", "severity_text", "severity_number", "event_name", "attributes"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"raw", "b'raw'"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        (Raising(), "<Raising: cannot be read>"),
        (RaisingMapping(a=1), "<RaisingMapping: cannot be read>"),
        (RaisingDatetime(2026, 1, 1), "<RaisingDatetime: cannot be read>"),
        (Plain(), "Plain\ufffd(\ufffd)"),
        (SimpleNamespace(a=1), "namespace(a=1)"),
        (object, "<class 'object'>"),
        (Fee, "<type>"),
        (1j, "1j"),
    ],
)
def test_values_that_are_changed_are_named(value: Any, shown: str) -> None:
    for fields, at in (({"v": value}, "v"), ({"v": {"in": [value]}}, "v.in")):
        line = encode(fields)
        assert line["attributes"]["v"] == (shown if at == "v" else {"in": [shown]})
        assert line["unencodable"] == [at]


def test_an_object_that_lies_about_its_class_is_described() -> None:
    line = encode({"v": LyingClass(), "trace_id": LyingClass()})
    assert line["attributes"] == {"v": "<LyingClass: cannot be read>"}
    assert line["unencodable"] == ["v"]


def test_a_text_that_raises_is_still_text() -> None:
    assert attribute(RaisingText("abc")) == "abc"
    assert attribute([RaisingText("abc")]) == ["abc"]


def test_none_is_left_out_and_an_empty_call_is_a_record() -> None:
    assert encode({"price": None, "size": 0, "note": "null"})["attributes"] == {"size": 0, "note": "null"}
    assert encode({})["attributes"] == {}


def test_dataclasses_are_walked_like_mappings() -> None:
    fee = Fee(Decimal("0.10"), "USDT")
    assert attribute(fee) == {"cost": "0.10", "currency": "USDT", "api_key": "***", "inner": None}
    fee.inner = fee
    assert attribute(fee)["inner"] == "<Fee>"


def test_cycles_and_depth_end_without_showing_what_is_masked() -> None:
    cyclic: dict[str, Any] = {"token": "hidden"}
    cyclic["self"] = cyclic
    assert attribute(cyclic) == {"token": "***", "self": "<dict>"}
    deep: Any = {"token": "hidden"}
    for _ in range(200):
        deep = [deep]
    assert "hidden" not in str(encode({"deep": deep}))
    bottomless: Any = []
    for _ in range(20_000):
        bottomless = [bottomless]
    line = encode({"deep": bottomless, "after": 1})
    assert line["attributes"]["after"] == 1
    assert line["unencodable"] == ["deep"]


def test_names_that_are_no_strings() -> None:
    shown = attribute({1: "a", "1": "b", None: "c", (1, 2): "d", Side.BUY: "e", 1.5: "f", b"x": "g", "\ud800": "h"})
    assert shown == {
        "1": "a", "1'": "b", "None": "c", "(1, 2)": "d", "buy": "e", "1.5": "f", "b'x'": "g", "\ufffd": "h",
    }  # fmt: skip
    assert attribute({Raising(): 1}) == {"<Raising: cannot be read>": 1}


def test_a_mutable_value_is_written_as_it_was() -> None:
    """E18: at the time of the call."""
    encoder = Encoder((), 65536)
    value = {"a": [1]}
    body = encoder.body(heading("x", "INFO").text, value)
    value["a"].append(2)
    assert strict(PREFIX + body)["attributes"] == {"a": [1]}


# -- limits --


def test_the_largest_values_are_cut_and_named_with_their_lengths() -> None:
    line = encode({"a": "x" * 5000, "b": "y" * 900, "c": list(range(2000)), "order_id": "55"}, most=2048)
    shown = line["attributes"]
    assert shown["order_id"] == "55"
    assert shown["a"] == "x" * 256
    assert shown["c"] == str(list(range(2000))).replace(" ", "")[:256]
    assert line["truncated"] == {"a": 5002, "c": 8891}
    assert shown["b"] == "y" * 900


def test_a_huge_text_of_control_signs_fits() -> None:
    line = encode({"a": "\x01" * 100_000, "b": {"\x02" * 5000: 1}}, most=1024)
    assert line["truncated"]["a"] == 600_002
    assert set(line["attributes"]) == {"a", "b"}


def test_thousands_of_small_fields_keep_what_identifies_an_order() -> None:
    fields: dict[str, Any] = {f"field_{n}": n for n in range(20_000)}
    line = encode({**fields, "exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7" * 99}, most=4096)
    assert line["attributes"] == {"exchange": "bybit", "symbol": "MNTUSDT", "order_id": "7" * 32}
    assert line["truncated"] == {"attributes": pytest.approx(400_000, rel=0.1)}


def test_thousands_of_unencodable_values_fit() -> None:
    line = encode({f"field_{n}": b"x" for n in range(5000)}, most=MIN_LINE_BYTES)
    assert set(line["truncated"]) == {"attributes"}


def test_event_name_severity_and_ids_are_bounded() -> None:
    line = encode({"trace_id": "t" * 9999, "span_id": Raising()}, name="n" * 9999, severity="s" * 9999)
    assert line["event_name"] == "n" * 200
    assert line["severity_text"] == "S" * 32
    assert line["severity_number"] == 9
    assert line["trace_id"] == "t" * 64
    assert line["span_id"] == "<Raising: cannot be read>"
    assert line["attributes"] == {}
    encode({"a": "x" * 9999}, most=MIN_LINE_BYTES, name="\x01" * 999, severity="\x01" * 999)


@pytest.mark.parametrize(
    ("given_text", "text", "number"),
    [
        ("INFO", "INFO", 9),
        ("warning", "WARN", 13),
        ("WARN", "WARN", 13),
        ("error", "ERROR", 17),
        ("CRITICAL", "FATAL", 21),
        ("debug", "DEBUG", 5),
        ("notice", "NOTICE", 9),
        ("\ud800\0", "\ufffd\ufffd", 9),
    ],
)
def test_severities(given_text: str, text: str, number: int) -> None:
    line = encode({}, severity=given_text)
    assert (line["severity_text"], line["severity_number"]) == (text, number)


# -- secrets --


@pytest.mark.parametrize(
    "name",
    """apiKey api_key API-KEY Api.Key apiSecret secret clientSecret password PASSWORD my_password passphrase token
    access_token refreshToken auth-token bot_token jwt sign Signature Authorization Proxy-Authorization Cookie
    Set-Cookie privateKey X-MBX-APIKEY OK-ACCESS-KEY OK-ACCESS-SIGN OK-ACCESS-PASSPHRASE X-BAPI-API-KEY X-BAPI-SIGN
    KC-API-KEY KC-API-SIGN KC-API-PASSPHRASE CB-ACCESS-SIGN AccessKeyId api-signature x-phemex-request-signature
    my_field MyField listenKey mnemonic""".split(),  # noqa: SIM905
)
def test_secrets_are_masked_in_any_spelling_at_any_depth(name: str) -> None:
    for fields in (
        {name: "hidden"},
        {"request": {"headers": {name: "hidden"}}},
        {"calls": [{"a": [{name: {"inner": "hidden"}}]}]},
        {"headers": [(name, "hidden"), ("Accept", "*/*")]},
        {"headers": [(name.encode(), b"hidden")]},
        {"request": {name.encode(): "hidden"}},
    ):
        line = encode(fields)
        assert "hidden" not in str(line)
        assert "***" in str(line)


def test_names_that_only_look_like_secrets_stay() -> None:
    fields = {
        "quote_token": "USDT", "base_token": "BTC", "signal_id": 7, "assigned": True, "key": "k", "signal": "long",
        "token_count": 3, "design": "x", "tokens": ["a"], "secretary": "y", "api_key_name": "main",
    }  # fmt: skip
    assert encode({**fields, "nested": fields})["attributes"] == {**fields, "nested": fields}


def test_a_ccxt_answer_keeps_all_but_its_secrets() -> None:
    answer = {
        "id": "1", "info": {"orderId": "1", "sign": "hidden"}, "fee": {"cost": None, "currency": None},
        "request_headers": {"X-MBX-APIKEY": "hidden", "Content-Type": "json"},
    }  # fmt: skip
    assert attribute(answer) == {
        "id": "1", "info": {"orderId": "1", "sign": "***"}, "fee": {"cost": None, "currency": None},
        "request_headers": {"X-MBX-APIKEY": "***", "Content-Type": "json"},
    }  # fmt: skip


def test_many_names_do_not_fill_the_memory_of_names() -> None:
    secrets = Secrets()
    for number in range(10_000):
        assert not secrets.secret(f"name_{number}")
    assert secrets.secret("apiKey")
    assert len(secrets._harmless) == 4096


# -- beside the attributes --


def test_trace_and_span_stand_beside_the_attributes() -> None:
    line = encode({"trace_id": "a" * 32, "span_id": "b" * 16, "size": 1})
    assert (line["trace_id"], line["span_id"], line["attributes"]) == ("a" * 32, "b" * 16, {"size": 1})
    assert "span_id" not in encode({"trace_id": "a", "span_id": None})


def test_a_time_given_leaves_the_time_of_writing_beside_it() -> None:
    encoder = Encoder((), 65536)
    body = encoder.body(heading("x", "INFO").text, {"a": 1, "timestamp": "2020-01-01T00:00:00.000Z"})
    line = strict(PREFIX + body)
    assert line["timestamp"] == "2020-01-01T00:00:00.000Z"
    assert datetime.fromisoformat(line["observed_timestamp"]) > datetime(2026, 1, 1, tzinfo=UTC)


def test_the_time_of_writing_goes_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one second to the next, over days, and back where the clock is set."""
    encoder, began = Encoder((), 65536), datetime(2026, 11, 22, 13, 10, 56, tzinfo=UTC)
    for microseconds in (0, 1, 999_999, 1_000_000, 1_000_001, 86_400_000_000, 86_399_999_999, -1, 0):
        moment = began + timedelta(microseconds=microseconds)
        ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
        monkeypatch.setattr("emitter.encoding.time_ns", lambda ns=ns: ns)
        line = strict(PREFIX + encoder.body(heading("x", "INFO").text, {}))
        assert line["timestamp"] == f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


# -- any value at all --


class Odd:
    def __init__(self, value: object) -> None:
        self.value = value


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.decimals(), st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Cc"])), st.binary(max_size=20), st.datetimes(), st.dates(), st.times(),
    st.datetimes(timezones=st.just(UTC)), st.uuids(), st.complex_numbers(), st.builds(Odd, st.integers()),
    st.sampled_from([Side.BUY, Level.HIGH, Raising(), RaisingText("x"), RaisingMapping(), Plain()]),
    st.text(min_size=300, max_size=3000),
)  # fmt: skip
names = st.one_of(st.text(max_size=20), st.sampled_from(["apiKey", "OK-ACCESS-SIGN", "trace_id", "exchange"]))
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(names, st.integers(), st.binary(max_size=5)), inner, max_size=6),
        st.builds(Fee, st.decimals(), st.text(), st.text(), inner),
    ),
    max_leaves=40,
)


@dataclass
class Holder:
    value: Any = dataclass_field(default=None)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(names, anything, max_size=12),
    st.one_of(st.text(), st.sampled_from(["order.created"])),
    st.sampled_from([MIN_LINE_BYTES, 1024, 65536]),
)
def test_any_value_makes_a_strict_line(fields: dict[str, Any], name: str, most: int) -> None:
    """E17: whatever it is given."""
    line = encode({**fields, "holder": Holder(fields)}, most=most, name=name, severity=name)
    assert list(line)[:3] == ["stream", "seq", "timestamp"]
    assert isinstance(line["attributes"], dict)
