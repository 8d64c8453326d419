"""Clients that ask for one path again and again: a few processes, each with some connections that stay open.

Each connection has one request under way. A client does as little as it can with an answer: it finds its length in its
head and counts its bytes, because clients and master share the cores."""
import itertools
import multiprocessing
import random
import select
import socket
import time

MAX_HEAD = 16 << 10
MAX_BODY = 64 << 20


class _Connection:
    """One connection with one request under way."""

    def __init__(self, port, requests):
        self.requests = itertools.cycle(requests)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self):
        """Sends the request."""
        self.head, self.left = b"", None
        self.begun = time.perf_counter()
        self.socket.sendall(next(self.requests))

    def read(self, buffer):
        """Takes what is there; whether the answer is whole."""
        size = self.socket.recv_into(buffer)
        if not size:
            raise OSError("the master closed the connection")
        if self.left is not None:
            self.left -= size
            return self.left == 0
        self.head += bytes(buffer[:size])
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            if len(self.head) > MAX_HEAD:
                raise OSError("an answer's head has no end")
            return False
        self.left = self._length(self.head[:end]) - (len(self.head) - end - 4)
        return self.left == 0

    @staticmethod
    def _length(head):
        first, *rows = head.split(b"\r\n")
        if not first.startswith(b"HTTP/1.1 200"):
            raise OSError(f"answered with {first!r}")
        for row in rows:
            if row[:15].lower() == b"content-length:":
                length = int(row[15:])
                if length <= MAX_BODY:
                    return length
        raise OSError("an answer without length, or too large")


def _ask_until(port, requests, connections, begin, end):
    """Asks from `begin` to `end` (of the monotonic clock); milliseconds of each answer that came between."""
    times, buffer = [], memoryview(bytearray(1 << 18))
    poll, known = select.epoll(), {}
    try:
        for _ in range(connections):
            one = _Connection(port, random.sample(requests, len(requests)))
            known[one.socket.fileno()] = one
            poll.register(one.socket, select.EPOLLIN)
        time.sleep(max(0.0, begin - time.monotonic()))
        for one in known.values():
            one.ask()
        while time.monotonic() < end:
            for number, _ in poll.poll(1):
                one = known[number]
                if one.read(buffer):
                    times.append(1000 * (time.perf_counter() - one.begun))
                    one.ask()
    finally:
        poll.close()
        for one in known.values():
            one.socket.close()
    return times


def _process(pipe, *task):
    try:
        pipe.send(_ask_until(*task))
    except (OSError, ValueError) as error:
        pipe.send(error)


def run(port, paths, accept, processes, connections, seconds):
    """Milliseconds of all answers to `GET path`, for one path after the other, within so many seconds; `accept` is the kind that is
    asked for."""
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\n\r\n".encode() for path in paths]
    begin = time.monotonic() + 0.3
    fork, workers = multiprocessing.get_context("fork"), []
    try:
        for _ in range(processes):
            ours, theirs = fork.Pipe(duplex=False)
            task = (theirs, port, requests, connections, begin, begin + seconds)
            worker = fork.Process(target=_process, args=task, daemon=True)
            worker.start()
            theirs.close()
            workers.append((worker, ours))
        times = []
        for _, ours in workers:
            if not ours.poll(seconds + 30):
                raise OSError("a client hangs")
            try:
                found = ours.recv()
            except EOFError as error:
                raise OSError("a client ended") from error
            if isinstance(found, Exception):
                raise OSError(f"{paths[0]}: {found}")
            times += found
        return times
    finally:
        for worker, ours in workers:
            ours.close()
            worker.join(0.5)
            if worker.is_alive():
                worker.kill()
                worker.join(5)
