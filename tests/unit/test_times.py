from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, Inexact, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.times import time_from, time_text

MOMENT = datetime(2024, 3, 5, 17, 8, 9, 123456, tzinfo=UTC)
SECONDS = 1709658489


@pytest.mark.parametrize(
    ("value", "microsecond"),
    [
        (SECONDS, 0),
        (float(SECONDS) + 0.25, 250000),
        (Decimal("1709658489.123456789"), 123456),
        (SECONDS * 10**3 + 123, 123000),
        (1709658489123.5, 123500),
        (SECONDS * 10**6 + 123456, 123456),
        (SECONDS * 10**9 + 123456789, 123456),
        ("1709658489", 0),
        (" 1709658489.123 ", 123000),
        ("1709658489123", 123000),
        ("1709658489123456", 123456),
        ("1709658489123456789", 123456),
        ("1.709658489123E12", 123000),
        ("2024-03-05T17:08:09.123456Z", 123456),
        ("2024-03-05t17:08:09.123z", 123000),
        ("2024-03-05 17:08:09", 0),
        ("2024-03-05T18:08:09.123456+01:00", 123456),
        ("2024-03-05T17:08:09.123456789Z", 123456),
        (datetime(2024, 3, 5, 17, 8, 9, 5), 5),  # noqa: DTZ001
        (MOMENT.astimezone(timezone(timedelta(hours=-7))), 123456),
    ],
)
def test_each_unit_and_form_means_the_same_moment(value: object, microsecond: int) -> None:
    assert time_from(value) == MOMENT.replace(microsecond=microsecond)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10**11 - 1, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        (10**11, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (10**14 - 1, datetime(5138, 11, 16, 9, 46, 39, 999000, tzinfo=UTC)),
        (10**14, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (10**17 - 1, datetime(5138, 11, 16, 9, 46, 39, 999999, tzinfo=UTC)),
        (10**17, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
    ],
)
def test_the_unit_changes_at_these_sizes(value: int, expected: datetime) -> None:
    assert time_from(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, [], {}, b"1709658489", date(2024, 3, 5)),
        *(0, -1, -SECONDS, 0.0, "0", "-1", "0.0000000001", Decimal(0)),
        *("", "  ", "never", "2024-13-01T00:00:00Z", "1709658489s", "１７０９６５８４８９", "1e999999999999"),
        *(
            float("nan"),
            float("inf"),
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("-Infinity"),
            "nan",
            "Infinity",
        ),
        *(10**21, 10**400, 1e300, Decimal("1e999999"), "9" * 30, 10**21 - 1),
        *("1970-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_what_says_no_time_is_none(value: object) -> None:
    assert time_from(value) is None


def test_the_bots_own_decimal_context_does_no_harm() -> None:
    with localcontext() as context:
        context.prec = 3
        context.traps[Inexact] = True
        assert time_from(Decimal("1709658489.123456")) == MOMENT


@pytest.mark.parametrize(
    ("microsecond", "text"),
    [(0, ".000Z"), (120000, ".120Z"), (123456, ".123456Z"), (100, ".000100Z")],
)
def test_the_text_has_the_decimals_that_are_known(microsecond: int, text: str) -> None:
    assert time_text(MOMENT.replace(microsecond=microsecond)) == "2024-03-05T17:08:09" + text


def test_the_text_is_in_utc() -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert time_text(east) == "2024-03-05T17:08:09.123456Z"


@given(st.datetimes(min_value=datetime(1970, 1, 1, 0, 0, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_comes_back_from_its_text(moment: datetime) -> None:
    assert time_from(time_text(moment)) == moment


@given(st.datetimes(datetime(1973, 4, 1), datetime(5138, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_comes_back_from_its_microseconds(moment: datetime) -> None:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert time_from(since // timedelta(microseconds=1)) == moment


@given(st.one_of(st.integers(), st.floats(), st.decimals(), st.text(), st.binary(), st.none(), st.booleans()))
def test_nothing_raises(value: object) -> None:
    moment = time_from(value)
    assert moment is None or (moment.tzinfo is UTC and moment.year >= 1970)
