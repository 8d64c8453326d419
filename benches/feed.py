"""A client of a master's live feed, `/ws`: as much of a WebSocket as events need."""
import base64
import json
import os
import socket
import struct
import time

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
MAX_HEAD = 16 << 10
MAX_FRAME = 16 << 20


class Feed:
    """The events under one path such as `builds/*/*`, in the order in which they come."""

    def __init__(self, port, path, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self._upgrade(port)
        self._send(TEXT, json.dumps({"cmd": "startConsuming", "path": path, "_id": 1}).encode())
        end = time.monotonic() + timeout
        while True:
            answer = self._message(end)
            if answer.get("_id") == 1:
                if answer.get("code") != 200:
                    raise OSError(f"the feed refused {path}: {answer}")
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def until(self, suffix, seconds):
        """Waits for the next event whose key ends so: the moment when it was here, and its message."""
        end = time.monotonic() + seconds
        while True:
            event = self._message(end)
            if event.get("k", "").endswith(suffix):
                return time.perf_counter(), event["m"]

    def _upgrade(self, port):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                raise OSError("the feed's answer has no end")
            self._receive()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise OSError(f"no feed: {head[:200]!r}")

    def _receive(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise OSError("the feed ended")
        self.buffer += piece

    def _bytes(self, count, end):
        while len(self.buffer) < count:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no such event came in time")
            self.socket.settimeout(left)
            self._receive()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _frame(self, end):
        """The next frame: whether it is the last of its message, its kind, its payload."""
        first, second = self._bytes(2, end)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack(">H", self._bytes(2, end))
        elif size == 127:
            size, = struct.unpack(">Q", self._bytes(8, end))
        if size > MAX_FRAME:
            raise OSError(f"a frame of {size} bytes")
        return first & 0x80, first & 0x0F, self._bytes(size, end)

    def _message(self, end):
        """The next message, as JSON; pings are answered."""
        text = b""
        while True:
            last, kind, payload = self._frame(end)
            if kind == PING:
                self._send(PONG, payload)
            elif kind == CLOSE:
                raise OSError(f"the feed was closed: {payload[2:]!r}")
            elif kind != PONG:
                text += payload
                if len(text) > MAX_FRAME:
                    raise OSError("a message without end")
                if last:
                    return json.loads(text)

    def _send(self, kind, payload):
        """A client's frames are masked; a mask of zeros is one, too."""
        size = len(payload)
        length = struct.pack(">B", 0x80 | size) if size < 126 else struct.pack(">BH", 0x80 | 126, size)
        self.socket.sendall(bytes([0x80 | kind]) + length + bytes(4) + payload)
