"""Times as texts: the short way for milliseconds says what the long way says."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emitter.times import text_from, text_from_iso_of_milliseconds, time_from, time_text

MOMENT = "2024-03-05T17:08:09.123Z"


@given(st.integers(0, 10**20) | st.integers(10**11 - 2, 10**14 + 2) | st.floats() | st.text() | st.booleans())
@example(10**11 - 1)
@example(10**11)
@example(10**14 - 1)
@example(10**14)
def test_a_text_of_a_time_is_that_of_its_moment(value: Any) -> None:
    moment = time_from(value)
    assert text_from(value) == (None if moment is None else time_text(moment))


@given(st.datetimes(datetime(2001, 9, 10), datetime(2286, 11, 20), timezones=st.just(UTC)))  # noqa: DTZ001
def test_seconds_that_were_taken_for_milliseconds_are_put_right(moment: datetime) -> None:
    seconds = int(moment.timestamp())
    misread = datetime.fromtimestamp(seconds / 1000, UTC).isoformat(timespec="milliseconds")
    assert misread < "1970-04-27"
    assert text_from_iso_of_milliseconds(misread) == text_from(seconds)


@pytest.mark.parametrize("text", [MOMENT, "2024-03-05 17:08:09.123", "1709658489123", 1709658489123])
def test_a_right_time_stays(text: Any) -> None:
    assert text_from_iso_of_milliseconds(text) == MOMENT


@pytest.mark.parametrize("nothing", [None, "", "soon", 0, -1, "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z"])
def test_what_is_no_time_stays_none(nothing: Any) -> None:
    assert text_from_iso_of_milliseconds(nothing) is None
    assert text_from(nothing) is None
