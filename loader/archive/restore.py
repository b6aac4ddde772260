"""``tradetrail archive restore``: segments back from their archives, byte for byte, to be loaded again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emitter.recovery import body_size
from emitter.segments import SegmentName, read_footer, sync_directory

from ..errors import EnvironmentFault, UsageError
from ..inventory import segments_in
from ..verify.files import digests
from .files import FOLDER, archives_in, blocks, lost_folder, segment_of
from .locks import archiving
from .pack import MAKING, as_private_as


@dataclass(slots=True)
class Restored:
    """What came back, and what is wrong with archives, by file."""

    segments: int = 0
    bytes: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"segments": self.segments, "bytes": self.bytes, "problems": self.problems}


def asked_of(directory: Path, names: Iterable[str]) -> list[SegmentName]:
    """The archived segments that a person names, by file names; one that is none is a :class:`UsageError`."""
    known = archives_in(directory)
    found = []
    for given in names:
        name = segment_of(Path(given).name)
        if name is None or name not in known:
            raise UsageError(f"{given}: there is no archive of such a segment for {directory}")
        found.append(name)
    return found


def restore(
    directory: Path,
    names: Collection[SegmentName] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Restored:
    """Bring these segments back, of those that are not there; None: all. Their archives stay.

    ``progress`` is told how many of them are done. Errors: ``UsageError``, ``EnvironmentFault``.
    """
    if problem := lost_folder(directory):
        raise EnvironmentFault(f"{directory}: its folder of archives {problem}")
    there, done = set(segments_in(directory)), Restored()
    archives = archives_in(directory)
    wanted = [name for name in archives if name not in there and (names is None or name in names)]
    with contextlib.ExitStack() as stack:
        if (directory / FOLDER).exists():
            stack.enter_context(archiving(directory / FOLDER))
        for at, name in enumerate(wanted, 1):
            _restore(archives[name], directory / str(name), done)
            progress(at, len(wanted))
    return done


def _restore(archive: Path, segment: Path, done: Restored) -> None:
    made = segment.with_name(segment.name + MAKING)
    try:
        made.unlink(missing_ok=True)
        with made.open("xb") as file:
            as_private_as(archive.stat(), file)
            try:
                file.writelines(blocks(archive))
            except OSError as error:
                if error.filename != str(archive):
                    raise
                done.problems[archive.name] = str(error.strerror)
                return
            file.flush()
            os.fsync(file.fileno())
        size = made.stat().st_size
        footer = read_footer(made)
        end = body_size(made)
        if footer is None or digests(made, [end], lambda _: None)[end] != footer.sha256:
            done.problems[archive.name] = "is not what its footer vouches for; it is not brought back"
            return
        os.link(made, segment)  # never in place of one that is there
        sync_directory(segment.parent)
        done.segments += 1
        done.bytes += size
    except FileExistsError:
        return  # it came back meanwhile
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or segment}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
