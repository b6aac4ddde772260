"""Many hosts, each with its own disk, bots and ``watch``, into one PostgreSQL; one of them is cut off for a while.

The tables are those of one load of all directories: streams of different hosts never meet in a key, and orders that
several hosts have records of are folded from all of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from loader.database import Database
from loader.statements import sql_dir

from ..bots import tmpfs_folder
from ..command import SCRIPT, environment
from ..contents import all_loaded, assert_same, contents
from ..plugins.postgres import Cluster
from ..plugins.server import PASSWORD, Server, embedded_programs, started
from ..processes import Bot, Command
from .proxy import Proxy

PATIENCE_S = 60.0
_OF_STREAMS = "SELECT coalesce(sum(records), 0)::bigint FROM monitoring.audit_segments WHERE stream = ANY ($1::text[])"


@contextmanager
def roles(cluster: Cluster, dsn: str, many: int) -> Iterator[list[str]]:
    """A role for each host, which may load and no more."""
    names = [f"tradetrail_test_{os.getpid()}_host{n}" for n in range(many)]
    cluster.run(dsn, (sql_dir() / "roles.sql").read_text())
    for name in names:
        cluster.run(dsn, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE tradetrail_loader")
    try:
        yield names
    finally:
        cluster.run(cluster.admin_dsn, *(f"DROP ROLE {name}" for name in names))


class Host:
    """One machine: a folder that no other sees, its bots, and its ``watch``, started ``within`` its network."""

    def __init__(self, folder: Path, ring_dir: Path, dsn: str, *within: str) -> None:
        self.directory = folder / "audit"
        self.directory.mkdir(mode=0o700, parents=True)
        self._dsn, self._ring_dir, self._within = dsn, ring_dir, within
        self._said = folder / "watch.err"
        self._bots: list[Bot] = []

    def __enter__(self) -> Host:
        with self._said.open("w") as said:
            self._watch = subprocess.Popen(
                [*self._within, SCRIPT, "watch", "--dir", self.directory, "--dsn", self._dsn, "--rescan", "0.5"],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        for bot in self._bots:
            if bot.process.is_alive():
                bot.kill()
        if self._watch.poll() is None:
            self._watch.kill()
            self._watch.wait(10)

    def start_bots(self, seeds: range) -> None:
        self._bots += [Bot(self.directory, self._ring_dir, seed) for seed in seeds]

    def stop_bots(self) -> None:
        for bot in self._bots:
            bot.stop()

    def stop_watch(self) -> None:
        self._watch.send_signal(signal.SIGTERM)
        assert self._watch.wait(30) == 0, self.said()
        assert "Traceback" not in self.said()

    def said(self) -> str:
        return self._said.read_text()

    @property
    def streams(self) -> list[str]:
        return sorted({path.name.split(".")[-3] for path in self.directory.glob("*.jsonl")})


class Fleet:
    """The hosts, and what the one database has of each."""

    def __init__(self, hosts: list[Host], dsn: str, patience_s: float = PATIENCE_S) -> None:
        self.hosts, self._dsn, self._patience_s = hosts, dsn, patience_s

    def loaded(self, host: Host) -> int:
        async def ask() -> int:
            async with await Database.connect(self._dsn) as database:
                return int(await database.fetchval(_OF_STREAMS, host.streams))

        return asyncio.run(ask())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; the limit is for failures only."""
        limit = time.monotonic() + self._patience_s
        while not condition():
            assert time.monotonic() < limit, "\n".join([f"{what}: it does not come", *(h.said() for h in self.hosts)])
            time.sleep(0.05)

    def go_on(self, hosts: list[Host], records: int) -> None:
        """Wait until so many more records of each of these are loaded."""
        wanted = {host.directory: self.loaded(host) + records for host in hosts}
        for host in hosts:
            self.until(lambda host=host: self.loaded(host) >= wanted[host.directory], "more records")

    def end(self) -> None:
        """The bots end; each ``watch`` loads what is left, and ends."""
        for host in self.hosts:
            host.stop_bots()
        for host in self.hosts:
            self.until(lambda host=host: self.loaded(host) >= _records(host.directory), "the last records")
        for host in self.hosts:
            host.stop_watch()


def _records(directory: Path) -> int:
    return sum(line.startswith(b'{"stream":"') and b'"seq":' in line[:64]
               for path in directory.glob("*.jsonl") for line in path.read_bytes().splitlines())  # fmt: skip


def cut_off(fleet: Fleet, host: Host, records: int, cut: Callable[[], None], mend: Callable[[], None]) -> None:
    """While one host is cut off, nothing of it arrives, and the others go on; then it catches up."""
    others = [other for other in fleet.hosts if other is not host]
    cut()
    began = time.monotonic()
    fleet.go_on(others, records)
    print(f"cut off: the others have {records} records more after {time.monotonic() - began:.1f} s")
    then = fleet.loaded(host)
    fleet.go_on(others, records)
    assert fleet.loaded(host) == then
    assert _records(host.directory) > then
    mend()
    fleet.go_on([host], records)


def assert_as_one_load(fleet: Fleet, folder: Path, dsn: str, other: str) -> int:
    """Assert that the tables are those of one load of all directories; how many records there are."""
    together = folder / "together"
    together.mkdir(mode=0o700)
    for host in fleet.hosts:
        for path in host.directory.glob("*.jsonl"):
            assert not (together / path.name).exists(), "two hosts made a file of one name"
            shutil.copy2(path, together)
    records = asyncio.run(all_loaded(dsn, together))
    calm = Command(folder, "load", "--dir", together, "--dsn", other)
    assert calm.end(PATIENCE_S) in (0, 1), calm.said()
    assert_same(asyncio.run(contents(dsn)), asyncio.run(contents(other)))
    return records


def test_hosts_that_share_nothing_but_the_database_load_as_one(
    server: Server, own_cluster: Cluster, tmp_path: Path
) -> None:
    """Into partitioned tables; orders are shared among all bots of all hosts. The single load goes into plain ones."""
    empty = own_cluster.template(existing=False, migrated=True)
    template = own_cluster.template(existing=False, migrated=True, partitioned=True)
    with ExitStack() as stack:
        ring_dir = stack.enter_context(tmpfs_folder())
        dsn, other = (stack.enter_context(own_cluster.database(name)) for name in (template, empty))
        users = stack.enter_context(roles(own_cluster, dsn, 3))
        name = dsn.rpartition("/")[2]
        proxies = [stack.enter_context(Proxy(server.port)) for _ in users]
        hosts = [
            stack.enter_context(Host(tmp_path / user, ring_dir, server.dsn(name, user=user, port=proxy.port)))
            for user, proxy in zip(users, proxies, strict=True)
        ]
        fleet = Fleet(hosts, dsn)

        def cut() -> None:
            proxies[0].arm("stall")
            fleet.until(lambda: bool(proxies[0].struck["stall"]), "a stalled connection")
            # As the server does when a peer is silent for long: else it keeps the locks of a transaction that began.
            own_cluster.run(dsn, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{users[0]}'")

        for n, host in enumerate(hosts):
            host.start_bots(range(2 * n, 2 * n + 2))
        fleet.go_on(hosts, 20)
        cut_off(fleet, hosts[0], 60, cut, proxies[0].arm)
        fleet.end()
        assert assert_as_one_load(fleet, tmp_path, dsn, other) > 400
        assert len({stream for host in hosts for stream in host.streams}) == 6


# -- with networks of their own --


class Network:
    """A bridge, and hosts on it as network namespaces. ``address``: the bridge's own, which all hosts reach."""

    def __init__(self) -> None:
        self._subnet = f"10.{random.randrange(200, 255)}.{random.randrange(256)}"
        self._name = f"tt{os.getpid() % 100_000}"
        self.address = f"{self._subnet}.1"
        self.range = f"{self._subnet}.0/24"

    def __enter__(self) -> Network:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        _ip("link", "del", self._bridge)

    @property
    def _bridge(self) -> str:
        return f"{self._name}b"

    @contextmanager
    def host(self, number: int) -> Iterator[str]:
        """The name of a namespace with one link, to the bridge."""
        name, link, inside = f"{self._name}h{number}", self.link(number), f"{self._name}i{number}"
        _ip("netns", "add", name)
        try:
            _ip("link", "add", link, "type", "veth", "peer", "name", inside, "netns", name)
            _ip("link", "set", link, "master", self._bridge, "up")
            _ip("-n", name, "addr", "add", f"{self._subnet}.{number + 10}/24", "dev", inside)
            _ip("-n", name, "link", "set", inside, "up")
            yield name
        finally:
            _ip("netns", "del", name)
            with suppress(subprocess.CalledProcessError):  # it goes with its other end, soon
                _ip("link", "del", link)

    def link(self, number: int) -> str:
        return f"{self._name}v{number}"


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=30)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2; on Debian: apt-get install iproute2")
    made = Network()
    try:
        made.__enter__()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine lets nobody make networks: {error.stderr.decode().strip()}")
    try:
        with made.host(99):
            pass
        yield made
    finally:
        made.__exit__()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
def test_hosts_on_a_network_whose_links_go_down_load_as_one(
    network: Network, tmp_path: Path, partitioned: bool
) -> None:
    with ExitStack() as stack:
        listen = f"127.0.0.1,{network.address}"
        server = stack.enter_context(started(embedded_programs(), listen_addresses=listen))
        with (server.data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network.range} scram-sha-256\n")
        cluster = Cluster(server.dsn())
        cluster.run(cluster.admin_dsn, "SELECT pg_reload_conf()")
        empty = cluster.template(existing=False, migrated=True)
        template = cluster.template(existing=False, migrated=True, partitioned=partitioned)
        dsn, other = (stack.enter_context(cluster.database(name)) for name in (template, empty))
        users = stack.enter_context(roles(cluster, dsn, 4))
        hosts = []
        for number, user in enumerate(users):
            within = ("ip", "netns", "exec", stack.enter_context(network.host(number)))
            remote = server.dsn(dsn.rpartition("/")[2], user=user).replace("@127.0.0.1:", f"@{network.address}:")
            ring_dir = stack.enter_context(tmpfs_folder())
            hosts.append(stack.enter_context(Host(tmp_path / user, ring_dir, remote, *within)))
        # Others wait where a host is cut off within a transaction: until the server gives that up.
        fleet = Fleet(hosts, dsn, patience_s=400.0)
        for number, host in enumerate(hosts):
            host.start_bots(range(3 * number, 3 * number + 3))
        fleet.go_on(hosts, 50)
        for number in (1, 3):
            link = network.link(number)
            cut_off(
                fleet, hosts[number], 400,
                lambda link=link: _ip("link", "set", link, "down"), lambda link=link: _ip("link", "set", link, "up"),
            )  # fmt: skip
        fleet.end()
        records = assert_as_one_load(fleet, tmp_path, dsn, other)
        assert records > 4000
        assert len({stream for host in hosts for stream in host.streams}) == 12
        print(f"{records} records of 12 bots on 4 hosts")
