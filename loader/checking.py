"""Checks ahead of PostgreSQL: while it takes one batch, the next ones are checked, as many at once as there are cores
for it. They come out in the order of their lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from emitter.segments import SegmentName

from .errors import EnvironmentFault
from .prepared import Prepared
from .rules import Columns, Rule
from .spool import Spooled
from .validate import Check, OutOfMemory, open_engine

T = TypeVar("T")

# A check uses one core, and so does PostgreSQL; each holds a batch in memory.
_MOST_AT_ONCE = 2
# DuckDB's memory crumbles: each batch leaves a little that the engine does not use again, though it counts it as free.
_CHECKS_OF_AN_ENGINE = 100


class Checking:
    """Checks the batches of a directory. :meth:`close` waits for one that is still being checked."""

    def __init__(self, temporary: Path, rules: Sequence[Rule]) -> None:
        self._temporary = temporary
        self._rules = rules
        self._begun = 0
        self._beginning = threading.Lock()
        self._engine = open_engine(self._spill_folder())
        self.at_once = min(_MOST_AT_ONCE, os.cpu_count() or 1)
        self._room = threading.Semaphore(self.at_once)
        self._alone = threading.Lock()
        self._spooling = ThreadPoolExecutor(1, "tradetrail-spool")
        self._checking = ThreadPoolExecutor(self.at_once, "tradetrail-check")

    def close(self) -> None:
        """End the threads and the engine."""
        self._spooling.shutdown()
        self._checking.shutdown()
        self._engine.close()

    async def prepared(
        self, spooled: Iterator[Spooled], columns: Columns, *, ahead: int, settle: Callable[[], bool]
    ) -> AsyncGenerator[Prepared]:
        """The batches, checked, each good until the next is asked for; ``ahead`` are begun before the first is through.

        The iterator is asked in a thread of its own, again after each batch. ``settle``: see :meth:`Check.rows`.
        """
        known: dict[SegmentName, int | None] = {}

        async def one() -> Prepared | None:
            batch = await _in(self._spooling, lambda: next(spooled, None))
            return None if batch is None else await _in(self._checking, self._check, batch, columns, settle)

        # Tasks start in the order in which they are made, and one thread spools: so order is kept.
        begun = deque(asyncio.create_task(one()) for _ in range(max(1, min(ahead, self.at_once))))
        try:
            # Shielded: whoever is cancelled here still finds below what the threads made of their batches.
            while (prepared := await asyncio.shield(begun[0])) is not None:
                begun.popleft()
                begun.append(asyncio.create_task(one()))
                try:
                    await asyncio.to_thread(_follow, prepared, known)  # the checks ahead keep their own threads busy
                    yield prepared
                finally:
                    prepared.discard()
        finally:
            for task in begun:
                with contextlib.suppress(Exception):
                    if (left := await task) is not None:
                        left.discard()

    def _check(self, batch: Spooled, columns: Columns, settle: Callable[[], bool]) -> Prepared:
        """Check a batch; by itself, where two at once need more than the memory that they share."""
        with contextlib.suppress(OutOfMemory), self._room:
            return self._checked(batch, columns, settle)
        with self._to_itself():
            try:
                return self._checked(batch, columns, settle)
            except OutOfMemory as error:
                raise EnvironmentFault(
                    f"a batch of {batch.bytes:,} bytes needs more memory than a check may have; "
                    "take smaller ones with --batch-bytes"
                ) from error

    @contextlib.contextmanager
    def _to_itself(self) -> Iterator[None]:
        with self._alone, contextlib.ExitStack() as held:
            for _ in range(self.at_once):
                held.enter_context(self._room)
            yield

    def _checked(self, batch: Spooled, columns: Columns, settle: Callable[[], bool]) -> Prepared:
        folder = Path(tempfile.mkdtemp(dir=self._temporary))
        check = self._check_in_engine(batch, folder, columns)
        try:
            check.run()
            prepared = Prepared(batch, folder, check, check.rows(settle=settle()), None, check.parts())
        except BaseException:
            check.__exit__(None, None, None)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        batch.path.unlink()
        return prepared

    def _check_in_engine(self, batch: Spooled, folder: Path, columns: Columns) -> Check:
        """A check in the engine of now, which is a new one after some hundred of them."""
        with self._beginning:
            if self._begun and self._begun % _CHECKS_OF_AN_ENGINE == 0:
                # The one before is let go, not closed: it ends with the last of its checks, which may still be read.
                self._engine = open_engine(self._spill_folder())
            self._begun += 1
            return Check(self._engine, batch, folder, self._rules, columns)

    def _spill_folder(self) -> Path:
        """For one engine, which makes and removes it: at its end an engine may take all that others spilled beside."""
        return self._temporary / f"spill-{self._begun}"


def _in(pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


def _follow(prepared: Prepared, known: dict[SegmentName, int | None]) -> None:
    """What takes the batches before it: a line whose seq cannot be read follows on those of its segment."""
    parts = prepared.spooled.parts
    prepared.check.continue_from({at: known.get(p.name) for at, p in enumerate(parts) if p.last_seq is None})
    prepared.rejects = prepared.check.rejects()
    known.update((parts[count.part].name, count.last_seq) for count in prepared.parts)
