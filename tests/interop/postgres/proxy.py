"""What stands between a server and its database: it passes everything on, until it stalls, resets or ends it."""

import ctypes
import os
import queue
import socket
import struct
import subprocess
import threading

PIECE = 1 << 16
PATIENCE = 60
CLONE_NEWNET = 0x40000000
# This side's end of the way to another network.
NEAR = "near"


class Proxy:
    """Listens on loopback, and passes each connection on to a unix socket."""

    host = "127.0.0.1"

    def __init__(self, upstream):
        self.upstream = str(upstream)
        self.listener = self.listen()
        self.port = self.listener.getsockname()[1]
        self.ways = set()
        # What a client sends, and what is done when it does.
        self.watched = self.fault = None
        self.stalled = False
        self.changed = threading.Condition()
        threading.Thread(target=self.run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def listen(self):
        return socket.create_server((self.host, 0), backlog=64)

    def url(self, name):
        return f"postgres://postgres@{self.host}:{self.port}/{name}?sslmode=disable"

    def at(self, part, fault):
        """The next time that a client sends what holds `part`, `fault` is told first, with the way and the piece."""
        self.fault, self.watched = fault, part

    def stall(self):
        """Passes nothing on any more; whoever connects is let wait."""
        with self.changed:
            self.stalled = True

    def go_on(self):
        """Passes on what has waited, and what comes."""
        with self.changed:
            self.stalled = False
            self.changed.notify_all()

    def cut(self):
        """Resets every connection."""
        for way in list(self.ways):
            way.end(True)

    def stop(self):
        """Resets every connection, and takes no more."""
        # Closed alone it would go on, since somebody waits for it.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.upstream)
            except OSError:
                client.close()
                server.close()
                continue
            Way(self, client, server)


class Far(Proxy):
    """Listens on another network, which may vanish with all that was sent there."""

    host = "10.213.77.2"

    def listen(self):
        made = queue.Queue()
        threading.Thread(target=self.settle, args=[made], daemon=True).start()
        return made.get(timeout=PATIENCE)

    def settle(self, made):
        """Joins the two networks, and listens on the other one."""
        # Of this thread alone, and of what it starts.
        assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        ip("link", "add", "far", "type", "veth", "peer", "name", NEAR, "netns", str(os.getpid()))
        for rest in [["addr", "add", f"{self.host}/30", "dev", "far"], ["link", "set", "far", "up"]]:
            ip(*rest)
        near = ["nsenter", "--target", str(os.getpid()), "--net"]
        for rest in [["addr", "add", "10.213.77.1/30", "dev", NEAR], ["link", "set", NEAR, "up"]]:
            ip(*rest, under=near)
        made.put(super().listen())
        # The network goes with its last thread and socket.
        self.switch = queue.Queue()
        while (up := self.switch.get()) is not None:
            ip("link", "set", "far", "up" if up else "down")

    def vanish(self):
        """Drops all that is sent from now on, without a word to who sends it."""
        self.switch.put(False)

    def come_back(self):
        self.switch.put(True)

    def stop(self):
        super().stop()
        self.switch.put(None)


def ip(*args, under=()):
    subprocess.run([*under, "ip", *args], check=True)


class Way:
    """A connection, with a thread for each direction."""

    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.over = False
        self.held = set()
        proxy.ways.add(self)
        self.threads = [
            threading.Thread(target=self.pass_on, args=ends, daemon=True)
            for ends in [(client, server), (server, client)]
        ]
        for thread in self.threads:
            thread.start()

    def pass_on(self, source, to):
        try:
            while piece := source.recv(PIECE):
                if source is self.client and self.proxy.watched and self.proxy.watched in piece:
                    self.proxy.watched = None
                    piece = self.proxy.fault(self, piece)
                if self.waits(source):
                    break
                to.sendall(piece)
        except OSError:
            pass
        self.end(False)

    def waits(self, source):
        """Waits as long as the proxy stalls; tells whether the way has ended meanwhile."""
        with self.proxy.changed:
            self.held.add(source)
            self.proxy.changed.notify_all()
            self.proxy.changed.wait_for(lambda: self.over or not self.proxy.stalled)
            self.held.discard(source)
            return self.over

    def answers(self):
        """Waits, while the proxy stalls, until the server has answered."""
        with self.proxy.changed:
            assert self.proxy.changed.wait_for(lambda: self.server in self.held, PATIENCE), "no answer"

    def end(self, reset):
        """Ends it, with a reset, or as if each side had closed it."""
        with self.proxy.changed:
            if self.over:
                return
            self.over = True
            self.proxy.changed.notify_all()
        self.proxy.ways.discard(self)
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for end in (self.client, self.server):
            # Who reads from it or writes to it has to stop first; that a reset is sent takes a close without it.
            try:
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass
        threading.Thread(target=self.close, daemon=True).start()

    def close(self):
        for thread in self.threads:
            thread.join(PATIENCE)
        self.client.close()
        self.server.close()
