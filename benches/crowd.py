#!/usr/bin/env python3
"""Many clients of `/ws` in one process that costs as little as it can: crowd.py PORT COUNT PATH

Each client subscribes to PATH. The program says `ready` when all are subscribed, reads whatever comes until there is a line on its
standard input and it has been quiet for a while after that, and prints one JSON object. What comes is not parsed but counted
frame by frame and summed (CRC-32): all clients must get the same frames in the same order."""
import array
import json
import resource
import select
import socket
import sys
import time
import zlib

HANDSHAKE = (b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
BUILD, FINISHED = b'{"k":"builds/', b'/finished","m":'
TEXT, CLOSE, PING = 0x81, 0x88, 0x89
QUIET_S = 1.0
READY_S = 120
AT_ONCE = 100  # connections that are being made at the same time


class Client:
    """One connection. It stops counting at the first event's frame that it cannot read whole, until the rest is there."""

    __slots__ = ("socket", "rest", "count", "sum", "bytes", "closed", "state", "finished")

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setblocking(False)
        self.rest, self.count, self.sum, self.bytes, self.closed, self.state = b"", 0, 0, 0, None, "head"
        self.finished = None  # builds that this client was told to have ended, if it looks

    def say(self, kind, payload):
        """A client's frames are masked; a mask of zeros is one, too."""
        self.socket.sendall(bytes([kind, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def take(self, data, path):
        """Takes what came; true when the subscription is confirmed by it."""
        data = self.rest + data if self.rest else data
        if self.state == "head":
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.rest = data
                return False
            if not data.startswith(b"HTTP/1.1 101"):
                raise OSError(f"no feed: {data[:200]!r}")
            data, self.state = data[end + 4:], "subscribing"
            self.say(TEXT, json.dumps({"cmd": "startConsuming", "path": path, "_id": 1}).encode())
        confirmed = False
        if self.state == "subscribing":
            if len(data) < 2 or len(data) < 2 + data[1]:
                self.rest = data
                return False
            reply, data = data[2:2 + data[1]], data[2 + data[1]:]
            if b'"code":200' not in reply.replace(b" ", b""):
                raise OSError(f"not subscribed: {reply!r}")
            self.state, confirmed = "subscribed", True
        self._count(data)
        return confirmed

    def _count(self, data):
        """Counts whole frames and sums them up; whatever is no event is left out."""
        at, begun, size, count = 0, 0, len(data), self.count
        while size - at >= 2:
            length, head = data[at + 1], 2
            if length == 126:
                if size - at < 4:
                    break
                length, head = data[at + 2] << 8 | data[at + 3], 4
            elif length == 127:
                if size - at < 10:
                    break
                length, head = int.from_bytes(data[at + 2:at + 10], "big"), 10
            end = at + head + length
            if end > size:
                break
            if data[at] == TEXT:
                count += 1
                if self.finished is not None:
                    key = data[at + head:at + head + 60]
                    self.finished += key.startswith(BUILD) and FINISHED in key
            else:
                self._sum(data, begun, at)
                begun = end
                self._control(data[at], data[at + head:end])
            at = end
        self._sum(data, begun, at)
        self.count, self.rest = count, data[at:]

    def _sum(self, data, begun, end):
        if end > begun:
            self.sum = zlib.crc32(memoryview(data)[begun:end], self.sum)
            self.bytes += end - begun

    def _control(self, kind, payload):
        if kind == CLOSE:
            self.closed = int.from_bytes(payload[:2], "big")
        elif kind == PING:
            self.say(0x8A, payload)


class Crowd:
    """All clients."""

    def __init__(self, port, path):
        self.port, self.path = port, path
        self.poll, self.clients, self.buffer = select.epoll(), {}, bytearray(1 << 18)
        self.first, self.last = None, None

    def serve(self, seconds):
        """Reads what there is; how many subscriptions were confirmed, or none if nothing came."""
        confirmed, found = 0, self.poll.poll(seconds)
        for number, _ in found:
            client = self.clients.get(number)
            if client is None:
                continue
            try:
                size = client.socket.recv_into(self.buffer)
            except BlockingIOError:
                continue
            except ConnectionError:
                size = 0
            if not size:
                client.closed = client.closed or 1006
                self.poll.unregister(number)
                continue
            before = client.count
            confirmed += client.take(bytes(memoryview(self.buffer)[:size]), self.path)
            if client.count != before:
                self.last = time.monotonic()
                self.first = self.first or self.last
        return confirmed if found else None

    def subscribe(self, count):
        """Connects all and waits until they are subscribed."""
        confirmed, end = 0, time.monotonic() + READY_S
        while confirmed < count:
            if time.monotonic() > end:
                raise OSError(f"{confirmed} of {count} are subscribed after {READY_S} s")
            while len(self.clients) < count and len(self.clients) < confirmed + AT_ONCE:
                client = Client(self.port)
                client.socket.sendall(HANDSHAKE % self.port)
                self.clients[client.socket.fileno()] = client
                self.poll.register(client.socket, select.EPOLLIN)
            confirmed += self.serve(1.0) or 0

    def listen(self):
        """Reads until a line comes, and then until nothing comes any more."""
        self.poll.register(sys.stdin, select.EPOLLIN)
        while not select.select([sys.stdin], [], [], 0)[0]:
            self.serve(1.0)
        self.poll.unregister(sys.stdin)
        while self.serve(QUIET_S) is not None:
            pass


def main():
    """Runs the crowd and prints what it saw."""
    port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    crowd = Crowd(port, path)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd.subscribe(count)
    next(iter(crowd.clients.values())).finished = 0  # one looks, the others got the same
    begun = resource.getrusage(resource.RUSAGE_SELF)
    print("ready", flush=True)
    crowd.listen()
    used = resource.getrusage(resource.RUSAGE_SELF)
    clients = list(crowd.clients.values())
    counts = array.array("q", (client.count for client in clients))
    print(json.dumps({
        "fewest": min(counts), "most": max(counts), "frames": sum(counts), "mb": sum(c.bytes for c in clients) / 1e6,
        "same": len({(c.count, c.sum) for c in clients}) == 1,
        "finished": next(c.finished for c in clients if c.finished is not None),
        "closed": sorted({c.closed for c in clients if c.closed}), "closed_clients": sum(1 for c in clients if c.closed),
        "seconds": (crowd.last - crowd.first) if crowd.first else 0,
        "cpu_s": used.ru_utime + used.ru_stime - begun.ru_utime - begun.ru_stime,
    }), flush=True)


if __name__ == "__main__":
    main()
