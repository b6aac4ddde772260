"""A proxy before PostgreSQL that cuts connections, at any instant or exactly around a COMMIT, or relays no more."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self

# What a client sends to commit, as a simple query.
_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
FAULTS = ("cut", "stall", "before commit", "after commit")


class Proxy:
    """Relays between a port of its own and the server's. :meth:`arm` chooses the next fault; each strikes once.

    ``cut`` ends every connection now; ``stall`` relays nothing until :meth:`arm` is called again, which then cuts;
    ``before commit`` cuts instead of handing over the next COMMIT; ``after commit`` hands it over, waits for the
    server's answer, and cuts instead of handing that over.
    """

    def __init__(self, port: int) -> None:
        self.commits = 0
        self.struck = dict.fromkeys(FAULTS, 0)
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
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
        for one in (self._listener, self._wake, self._waker):
            one.close()

    def arm(self, fault: str = "") -> None:
        """The next fault, instead of one that has not struck; none with no name."""
        with self._lock:
            before, self._fault = self._fault, fault
            if fault == "cut" or before == "stall":
                self._waker.send(b"c")

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake:
                    if b"c" in self._wake.recv(100):
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
        try:
            data = source.recv(65536)
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
            target.sendall(data)
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

    def _cut(self, one: socket.socket) -> None:
        other = self._peers.pop(one)
        del self._peers[other]
        for end in (one, other):
            self._clients.discard(end)
            self._last_words.discard(end)
            with suppress(KeyError):
                self._selector.unregister(end)
            end.close()
