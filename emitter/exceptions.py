"""An exception as the fields ``error_message`` and ``stack_trace``, which have columns in ``events``."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from .values import safe_text


def with_error(fields: dict[str, Any], exc_info: Any) -> dict[str, Any]:
    """The fields, with those of an exception where they do not say them themselves.

    ``exc_info`` is what ``logging`` takes: an exception, the tuple of ``sys.exc_info()``, or anything true for the
    exception that is being handled. Where there is none, nothing is added.
    """
    try:
        error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
        if exc_info and not isinstance(error, BaseException):
            error = sys.exc_info()[1]
        if not isinstance(error, BaseException):
            return fields
        return {
            "error_message": f"{type(error).__name__}: {_words(error)}",
            "stack_trace": stack_trace(error),
            **fields,
        }
    except Exception:  # noqa: BLE001  a value of the bot's own kind
        return fields


def stack_trace(error: BaseException) -> str:
    """As Python prints it. The text of a line of code is there where it is in memory: no file is opened for it."""
    try:
        told = traceback.TracebackException.from_exception(error, lookup_lines=False)
        for one in _chain(told):
            one.stack = traceback.StackSummary.from_list([_without_reading(frame) for frame in one.stack])
        return "".join(told.format())
    except Exception as failure:  # noqa: BLE001  an exception that cannot be shown is still told of
        return f"{safe_text(type(error).__name__)} (no stack trace: {type(failure).__name__})\n"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001
        return safe_text(error)


def _chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting, seen = [told], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [cause for cause in (one.__cause__, one.__context__, *(one.exceptions or ())) if cause is not None]


def _without_reading(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    lines = linecache.cache.get(frame.filename, ())
    known = lines[2] if len(lines) == 4 else []
    line = known[frame.lineno - 1].strip() if frame.lineno and 0 < frame.lineno <= len(known) else ""
    return traceback.FrameSummary(frame.filename, frame.lineno, frame.name, lookup_line=False, line=line)
