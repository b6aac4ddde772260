"""Values without end: the work is bounded, and the line says what was not looked at."""

from __future__ import annotations

import gc
import time
from collections import UserList, deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest

from emitter.encoding import Encoder, heading
from emitter.redaction import Secrets
from emitter.settings import MIN_LINE_BYTES

from ..trail import strict

PREFIX = b'{"stream":"0199e3c6a7b27c0e8d41c2f1a0b3d4e5","seq":1'
# The work takes some 30 ms; what is not bounded takes hours.
SLOW_S = 2.0


def encode(fields: dict[str, Any], most: int = 65536) -> dict[str, Any]:
    encoder = Encoder((), most)
    began = time.perf_counter()
    body = encoder.body(heading("x", "INFO").text, fields)
    assert time.perf_counter() - began < SLOW_S
    assert len(PREFIX + body) <= most
    return strict(PREFIX + body)


def doubled(make: Any, leaf: Any, levels: int = 30) -> Any:
    for _ in range(levels):
        leaf = make(leaf)
    return leaf


class Endless(Mapping[str, int]):
    def __getitem__(self, name: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"name_{number}"

    def __len__(self) -> int:
        return 7


class EndlessList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class Array:
    """As numpy's: ``tolist`` of the whole would be the end of the memory."""

    size = 10**12

    class flat:  # noqa: N801
        def __class_getitem__(cls, most: slice) -> Any:
            return Part(most.stop)


class Part:
    def __init__(self, size: int) -> None:
        self.size = size

    def tolist(self) -> list[int]:
        return [7] * self.size


Array.__module__ = "numpy"


class Tower(Enum):
    HIGH = doubled(lambda x: (x, x), "leaf")


@pytest.mark.parametrize(
    "value",
    [
        doubled(lambda x: [x, x], "leaf"),
        doubled(lambda x: [x, x], []),
        doubled(lambda x: (x, x), "leaf"),
        doubled(lambda x: {"a": x, "b": x}, 1),
        doubled(lambda x: {"a": [x, x]}, 1, 20),
        doubled(lambda x: deque([x, x]), 1),
        doubled(lambda x: UserList([x, x]), 1),
        doubled(lambda x: {"a": x, "b": x}.values(), 1),
        ["y" * 1_000_000] * 100_000,
        {f"{'k' * 100_000}{n}": 1 for n in range(100)},
        {("k" * 100_000): ["k" * 100_000] * 1000},
        [{"k" * 100_000: 1}] * 10_000,
        list(range(1_000_000)),
        dict.fromkeys(range(500_000), b"raw"),
        {type("Odd", (), {"__repr__": lambda _: "odd"})(): 1 for _ in range(20_000)},
        [b"raw"] * 100_000,
        Endless(),
        [Endless()] * 3,
        EndlessList([1]),
        Array(),
        Tower.HIGH,
        10**400_000,
        [10**400_000] * 1000,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("most", [MIN_LINE_BYTES, 65536])
def test_a_value_without_end_ends(value: Any, most: int) -> None:
    line = encode({"before": "b", "value": value, "after": "a", "order_id": "7", "then": {"a": 1}}, most)
    assert line["attributes"].items() >= {"order_id": "7"}.items()
    assert "truncated" in line or "unencodable" in line or isinstance(value, int)
    if most == 65536:
        assert line["attributes"].items() >= {"before": "b", "after": "a"}.items()


def test_what_was_not_looked_at_to_its_end_is_named() -> None:
    line = encode({"value": doubled(lambda x: [x, x], "leaf"), "small": [1], "none": None, "number": 5})
    assert set(line["truncated"]) == {"value", "small"}
    assert line["truncated"]["value"] > 32 * 1024
    assert line["attributes"]["value"].startswith("[[[[")
    assert line["attributes"]["number"] == 5


def test_what_fits_is_whole() -> None:
    for value in (
        list(range(8000)), ["y" * 6000] * 10, {str(n): n for n in range(4000)}, doubled(lambda x: [x, x], 1, 12),
        [[[]] * 200] * 100,
    ):  # fmt: skip
        line = encode({"value": value})
        assert line["attributes"]["value"] == value
        assert "truncated" not in line


def test_secrets_are_masked_in_what_is_large() -> None:
    for filler in (list(range(20_000)), doubled(lambda x: [x, x], 1)):
        line = encode({"value": [{"apiKey": "hidden"}, filler]})
        assert "hidden" not in str(line)
        line = encode({"value": [filler, {"apiKey": "hidden"}]})
        assert "hidden" not in str(line)


def test_a_dict_that_the_collector_does_not_track_is_masked_and_bounded_all_the_same() -> None:
    fields: dict[str, Any] = {"value": (("apiKey", "hidden"), (1, 2))}
    gc.collect()
    line = encode(dict(fields))
    assert "hidden" not in str(line)
    assert line["attributes"]["value"][1] == [1, 2]


def test_many_kinds_of_values_do_not_fill_the_memory_of_kinds() -> None:
    secrets = Secrets()
    for number in range(2000):
        kind = type(f"Text{number}", (str,), {})
        assert not secrets.nested({"a": kind("x")})
    assert len(secrets._scalars) <= 1024


def test_numbers_without_end_show_their_first_digits() -> None:
    for value in (10**5000, -(10**5000), 10**100_000, -(10**100_000), 2**14_000, 7**5001):
        assert encode({"value": value})["attributes"]["value"] == hex(value)[:2000]
