"""Where a ring's memory comes from: a locked file on tmpfs, or anonymous memory where there is none."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Container
from pathlib import Path

from .errors import RingDamaged
from .memory import DIRECTORY_AT, DIRECTORY_MAX, HEAD, HEADER_BYTES, SYNCED, Memory
from .segments import try_lock

_MADV_POPULATE_WRITE = 23  # Linux 5.14: fault all pages in now, with an error instead of a SIGBUS
_SUFFIX = ".ring"
# A ring in the making is a matter of milliseconds; one this old has no maker.
_MAKING_S = 60.0


def ring_path(ring_dir: Path, stream: str) -> Path:
    return ring_dir / f"tradetrail.{stream}{_SUFFIX}"


def list_rings(ring_dir: Path) -> list[Path]:
    """The rings in a directory, oldest first (a stream's name begins with its time)."""
    return sorted(ring_dir.glob(f"tradetrail.*{_SUFFIX}"))


def remove_unused(directory: Path, ring_dir: Path, known: Container[str]) -> list[str]:
    """Remove the rings of dead emitters of this directory that hold nothing; a word on each that holds something.

    For those that recovery does not come by: their emitter died before its first segment named them, or somebody
    removed the segments. ``known`` streams have segments; what is wrong with those is said elsewhere.
    """
    problems = []
    ours = directory.resolve()
    for path in list_rings(ring_dir):
        with contextlib.suppress(OSError, RingDamaged):
            # Looked at before it is locked: a lock on another directory's ring would be in its recovery's way.
            memory = open_shared(path) if ring_directory(path) == ours else None
            if memory is None:
                continue
            try:
                head, synced = memory.header[HEAD], memory.header[SYNCED]
                if memory.stream in known and head:
                    continue
                if head == synced and not memory.pending_losses():
                    path.unlink()
                else:
                    problems.append(f"{path}: holds records, and no segment names it; it is kept as it is")
            finally:
                memory.close()
    for path in ring_dir.glob("tradetrail.*.new"):
        with contextlib.suppress(OSError):  # its emitter died while it made it
            if path.stat().st_uid == os.getuid() and time.time() - path.stat().st_mtime > _MAKING_S:
                path.unlink()
    return problems


def ring_directory(path: Path) -> Path | None:
    """The log directory that a ring file says it belongs to, read without locking it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        text = os.pread(fd, DIRECTORY_MAX, DIRECTORY_AT).rstrip(b"\0")
    finally:
        os.close(fd)
    return Path(os.fsdecode(text)) if text else None


def anonymous(ring_bytes: int) -> Memory:
    """A ring that dies with the process, for where there is no tmpfs."""
    return Memory(mmap.mmap(-1, HEADER_BYTES + _whole_pages(ring_bytes)), None, None)


def create_shared(ring_dir: Path, ring_bytes: int, stream: str, directory: Path) -> Memory:
    """A ring in a file on tmpfs, locked by this process, every page there; OSError where that cannot be."""
    size = HEADER_BYTES + _whole_pages(ring_bytes)
    if os.fsencode(ring_dir).decode(errors="replace") != str(ring_dir):
        raise OSError(f"{os.fsencode(ring_dir)!r} is not UTF-8, a segment's header cannot name it")
    _check_room(ring_dir, size)
    path = ring_path(ring_dir, stream)
    # Made under another name, so that nobody finds it before it is locked.
    making = path.with_suffix(".new")
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever the bot's umask
        if not try_lock(fd):
            raise OSError(f"{making} cannot be locked")
        os.posix_fallocate(fd, 0, size)
        mapped = _map(making, fd, size)
        with contextlib.suppress(OSError):  # an older kernel: the pages come when they are touched
            mapped.madvise(_MADV_POPULATE_WRITE)
        memory = Memory(mapped, fd, path)
        memory.initialise(stream, directory)
        making.rename(path)
    except BaseException:
        os.close(fd)
        making.unlink(missing_ok=True)
        raise
    return memory


def open_shared(path: Path) -> Memory | None:
    """A dead emitter's ring, locked by this process; None where its owner lives or it is gone.

    Raises :class:`RingDamaged` where it cannot be trusted.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        # The name is looked at again: another recovery may have finished it between open and lock.
        if not try_lock(fd) or not _still_there(path, fd):
            os.close(fd)
            return None
    except BaseException:
        os.close(fd)
        raise
    try:
        if size <= HEADER_BYTES or size % mmap.PAGESIZE:
            raise RingDamaged(f"{path}: {size} bytes are no ring; it is kept as it is")
        memory = Memory(_map(path, fd, size), fd, path)
    except BaseException:
        os.close(fd)
        raise
    try:
        memory.check(size)
    except RingDamaged:
        memory.close()
        raise
    return memory


def _map(path: Path, locked: int, size: int) -> mmap.mmap:
    """The mapping of a ring file through a descriptor of its own.

    A mapping keeps a copy of its descriptor, which a forked child cannot close: were it the locked one, the child
    would hold the ring of a dead parent for as long as it lives.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not os.path.samestat(os.fstat(fd), os.fstat(locked)):
            raise RingDamaged(f"{path}: another file took its place")
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def _still_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _whole_pages(count: int) -> int:
    return -(-count // mmap.PAGESIZE) * mmap.PAGESIZE


def _check_room(ring_dir: Path, size: int) -> None:
    """OSError where the ring could not be held: no tmpfs, too small, or more than the memory cgroup allows.

    The cgroup is looked at first because fallocate over its limit is answered by the kernel's OOM killer.
    """
    kind = _file_system(ring_dir)
    if kind not in {"tmpfs", "ramfs"}:
        raise OSError(f"{ring_dir} is on {kind or 'an unknown file system'}, not on tmpfs")
    stat = os.statvfs(ring_dir)
    free = stat.f_bavail * stat.f_frsize
    if free < size:
        raise OSError(f"{ring_dir} has {free} bytes free, the ring needs {size}")
    room = _cgroup_room()
    if room is not None and room < size:
        raise OSError(f"the memory cgroup has {room} bytes left, the ring needs {size}")


def _file_system(path: Path) -> str | None:
    """The type of the file system that holds a path, from ``/proc/self/mountinfo`` (proc(5))."""
    best, kind = "", None
    try:
        real = str(path.resolve(strict=True))
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind


def _cgroup_room() -> int | None:
    """Bytes that this process's memory cgroup still allows, or None where nothing limits it (cgroups(7))."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    rooms = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        limit, usage = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                used = int((group / usage).read_text()) - _reclaimable(group / "memory.stat")
                rooms.append(int((group / limit).read_text()) - used)
    return min(rooms, default=None)


def _reclaimable(stat: Path) -> int:
    """Bytes of file cache that the kernel gives back before it kills anybody."""
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))
