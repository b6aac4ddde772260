"""The ring, interrupted: what a signal handler logs and raises may strike wherever CPython runs handlers."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from emitter import memory as memory_module
from emitter import ring as ring_module
from emitter.memory import NOT_ENCODABLE
from emitter.ring import Ring
from emitter.segments import new_stream
from emitter.shared import anonymous

from .test_ring import CAPACITY, Reader, body

_FILES = {ring_module.__file__, memory_module.__file__}


class Stop(BaseException):
    """What a bot's own handler raises."""


class Strikes:
    """Runs a handler at the n-th point of the ring's code where CPython may run one, and another some points later.

    CPython looks for signals where a function begins, behind each call of a C function, and where a loop begins anew.
    The first strike comes out of a trace function and the second out of a profile function, because each is switched
    off when it raises.
    """

    def __init__(self, first: int, second: int, handlers: Sequence[Callable[[], None]]) -> None:
        self._points = first
        self._later = second
        self._handlers = handlers
        self._amid = False
        self._before: dict[FrameType, str] = {}
        self.struck = 0

    def __enter__(self) -> Strikes:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _FILES or self._amid:
            return None
        frame.f_trace_opcodes = True
        before = self._before.get(frame, "")
        if event == "return" and frame.f_back:
            self._before[frame.f_back] = ""
        if event == "opcode":
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if event == "call" or (event == "opcode" and before.startswith(("CALL", "JUMP_BACKWARD"))):
            self._points -= 1
            if self._points == 0:
                self._strike(0)
        return self._trace

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if self.struck and not self._amid and frame.f_code.co_filename in _FILES and event in {"call", "c_return"}:
            self._later -= 1
            if self._later == 0:
                self._strike(1)

    def _strike(self, which: int) -> None:
        self._amid = True
        self.struck += 1
        try:
            self._handlers[which]()
        finally:
            self._amid = False


def handler(what: str, *calls: Callable[[], object]) -> Callable[[], None]:
    def handle() -> None:
        if "says" in what:
            for call in calls:
                call()
        if "raises" in what:
            raise Stop

    return handle


@pytest.mark.parametrize("then", ["says", "raises", "says and raises"])
@pytest.mark.parametrize("what", ["says", "raises", "says and raises"])
def test_wherever_handlers_strike_each_number_is_in_the_ring_or_declared(what: str, then: str) -> None:
    """E7: a call that a handler's exception ended, and another one that ended its clearing up."""
    struck = most = 0
    for first in count(1):
        for second in count(1):
            stream = new_stream()
            place = anonymous(CAPACITY)
            place.initialise(stream, Path("/log"))
            ring = Ring(place, stream)
            reader = Reader(ring)
            append, forgo = partial(ring.append, body()), partial(ring.forgo, NOT_ENCODABLE)
            strikes = Strikes(first, second, [handler(one, append, forgo) for one in (what, then)])
            with strikes:
                for step in (append, forgo, partial(ring.write_losses, at_once=True), append):
                    with suppress(Stop):
                        step()
            last = ring.append(body())
            ring.write_losses(at_once=True)
            reader.drain()
            lost = [seq for low, high, _ in reader.losses for seq in range(low, high + 1)]
            where = f"struck at point {first}, and {second} later"
            assert reader.seqs == sorted(reader.seqs), where
            assert sorted(reader.seqs + lost) == list(range(1, last + 1)), where
            assert set(ring.lost_by_reason) <= {"not encodable", "interrupted"}, where
            struck += strikes.struck
            most = max(most, second)
            if strikes.struck < 2:
                break
        if strikes.struck == 0:
            break
    assert first > 20
    assert most > 5
    assert struck > 400
