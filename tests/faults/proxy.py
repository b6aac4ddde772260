"""A proxy before PostgreSQL that cuts connections, at any instant or exactly around a COMMIT, or hardly relays."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Self

# What a client sends to commit, as a simple query.
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
FAULTS = ("cut", "stall", "before commit", "after commit")
# Not an end, but a misery: (bytes taken at a time, bytes handed over at a time, seconds before).
_LAME = {"drip": (256, 1, 0.0), "slow": (1024, 1024, 0.005)}


class Proxy:
    """Relays between a port of its own and the server's. :meth:`arm` chooses the next fault; each strikes once.

    ``cut`` ends every connection now; ``stall`` relays nothing until :meth:`arm` is called again, which then cuts;
    ``before commit`` cuts instead of handing over the next COMMIT; ``after commit`` hands it over, waits for the
    server's answer, and cuts instead of handing that over. ``drip`` (one byte at a time) and ``slow`` (200 KB/s) last
    until :meth:`arm` is called again, and cut nothing. After :meth:`forget` all present connections are half open.
    """

    def __init__(self, port: int) -> None:
        self.commits = 0
        self.struck = dict.fromkeys((*FAULTS, *_LAME), 0)
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._forgotten: list[socket.socket] = []
        self._last_words: set[socket.socket] = set()  # servers whose answer to a COMMIT is not handed over
        self._fault = ""
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._waker.send(b".")
        self._thread.join()
        for one in (self._listener, self._wake, self._waker, *self._forgotten):
            one.close()

    def arm(self, fault: str = "") -> None:
        """The next fault, instead of one that has not struck; none with no name."""
        with self._lock:
            before, self._fault = self._fault, fault
            if fault == "cut" or before == "stall":
                self._waker.send(b"c")

    def forget(self) -> None:
        """Relay nothing more over any present connection, nor that one side closed it; new ones are relayed."""
        self._waker.send(b"f")

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake:
                    said = self._wake.recv(100)
                    if b"f" in said:
                        self._forget_all()
                    if b"c" in said:
                        self._cut_all()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._relay(key.fileobj)
        self._cut_all(count=False)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            upstream = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:  # the server is down just now
            client.close()
            return
        self._peers |= {client: upstream, upstream: client}
        self._clients.add(client)
        for one in (client, upstream):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)  # a server process that is stopped takes nothing, and must not stop the others
            self._selector.register(one, selectors.EVENT_READ)

    def _relay(self, source: socket.socket) -> None:
        with self._lock:
            fault = self._fault
        if fault == "stall":
            # Its bytes stay unread; that a selector tells of them again and again must not cost a core.
            self._selector.unregister(source)
            self.struck["stall"] += 1
            return
        target = self._peers[source]
        size, part, pause_s = _LAME.get(fault, (65536, 65536, 0.0))
        if fault in _LAME:
            self.struck[fault] += 1
        time.sleep(pause_s)
        try:
            data = source.recv(size)
        except OSError:
            data = b""
        if source in self._last_words:
            self._strike("after commit", source)
            return
        if source in self._clients and _COMMIT in data:
            self.commits += 1
            if fault == "before commit":
                self._strike(fault, source)
                return
            if fault == "after commit":
                self._last_words.add(target)
        try:
            for at in range(0, len(data), part):
                target.sendall(data[at : at + part])
        except OSError:
            data = b""
        if not data:
            self._cut(source)

    def _strike(self, fault: str, at: socket.socket) -> None:
        with self._lock:
            if self._fault == fault:
                self._fault = ""
        self.struck[fault] += 1
        self._cut(at)

    def _cut_all(self, *, count: bool = True) -> None:
        if count and self._clients:
            self.struck["cut"] += 1
        for client in list(self._clients):
            self._cut(client)
        with self._lock:
            if self._fault == "cut":
                self._fault = ""

    def _forget_all(self) -> None:
        for one in self._peers:
            with suppress(KeyError):
                self._selector.unregister(one)
        self._forgotten += self._peers
        self._peers.clear()
        self._clients.clear()
        self._last_words.clear()

    def _cut(self, one: socket.socket) -> None:
        other = self._peers.pop(one)
        del self._peers[other]
        for end in (one, other):
            self._clients.discard(end)
            self._last_words.discard(end)
            with suppress(KeyError):
                self._selector.unregister(end)
            end.close()
