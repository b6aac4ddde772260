"""A Python program of our own that runs beside this one, and is ended with it."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from .errors import EnvironmentFault

_END_S = 10.0


@asynccontextmanager
async def started(name: str, *arguments: str, keep: int | None = None, **environ: str) -> AsyncIterator[Process]:
    """Run Python with these arguments, and more in its environment; at the end it is asked to end.

    ``name`` is for messages, ``keep`` a descriptor that it inherits. What it prints is not shown.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # whatever lies in the present directory is not what is meant
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, **environ},
            pass_fds=() if keep is None else (keep,),
        )
        beside = Process(process, name, said)
        try:
            yield beside
        finally:
            await beside.end()


class Process:
    """A program that runs beside, and what it said."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, said: IO[str]) -> None:
        self._process, self._name, self._said = process, name, said

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def check(self) -> None:
        """Errors: ``EnvironmentFault`` with its last word, where it has failed."""
        if self._process.returncode:
            self._said.seek(0)
            lines = self._said.read().strip().splitlines() or ["no word why"]
            raise EnvironmentFault(f"{self._name} ended with {self._process.returncode}: {lines[-1]}")

    async def end(self) -> None:
        if self.running:
            self._process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
