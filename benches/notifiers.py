#!/usr/bin/env python3
"""How long from the end of a build to its message, and what an idle notifier costs.

    benches/notifiers.py target/release/greenroom [BUILDS [NOTIFIERS]]

Starts masters of its own on free ports of the loopback, with a local worker and a webhook that this program answers. The delay is
from the build's end as stored (microseconds) to the arrival of the request. Memory is the difference of resident sizes between a
master with many idle notifiers and one with a single one, after the same rest.
"""

import http.server
import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

CONFIG = """
[master]
data-dir = "data"
[www]
listen = "127.0.0.1:{port}"
[workers.local]
kind = "local"
max-builds = 2
[schedulers.force]
kind = "force"
builders = "*"
[builders.b]
[[builders.b.steps]]
run = "echo x.c:1: error: no; exit 1"
"""
HOOK = """
[notifiers.hook{n}]
kind = "webhook"
url = "http://127.0.0.1:{sink}/"
allow-private = true
modes = "all"
{more}
"""

arrived = {}


class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        now = time.time()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("build"):
            arrived.setdefault(body["build"]["id"], now)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Master:
    def __init__(self, program, hooks):
        self.dir = tempfile.TemporaryDirectory()
        self.port = free_port()
        path = pathlib.Path(self.dir.name) / "greenroom.toml"
        path.write_text(CONFIG.format(port=self.port) + hooks)
        log = open(pathlib.Path(self.dir.name) / "log", "w")
        self.process = subprocess.Popen([program, "master"], cwd=self.dir.name, stdout=log, stderr=log)
        until = time.time() + 60
        while True:
            try:
                self.get("health")
                return
            except OSError:
                if time.time() > until or self.process.poll() is not None:
                    raise SystemExit((pathlib.Path(self.dir.name) / "log").read_text())
                time.sleep(0.05)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as answer:
            return json.load(answer)

    def force(self):
        call = {"jsonrpc": "2.0", "id": 1, "method": "force", "params": {}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v2/forceschedulers/force",
            json.dumps(call).encode(),
            {"content-type": "application/json"},
        )
        urllib.request.urlopen(request).read()

    def rss(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def main():
    program = os.path.abspath(sys.argv[1])
    builds = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    notifiers = int(sys.argv[3]) if len(sys.argv) > 3 else 500
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    port = sink.server_address[1]

    master = Master(program, HOOK.format(n=1, sink=port, more=""))
    for count in range(1, builds + 1):
        master.force()
        until = time.time() + 30
        while len(arrived) < count and time.time() < until:
            time.sleep(0.002)
    rows = sqlite3.connect(pathlib.Path(master.dir.name) / "data" / "greenroom.db").execute(
        "SELECT buildid, complete_at FROM builds WHERE complete = 1"
    )
    delays = sorted((arrived[i] - at / 1e6) * 1e3 for i, at in rows if i in arrived)
    at = lambda share: delays[min(len(delays) - 1, int(share * len(delays)))]
    print(f"{len(delays)} messages: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, longest {delays[-1]:.1f} ms")
    master.stop()

    sizes = []
    for n in (1, notifiers):
        hooks = "".join(HOOK.format(n=i, sink=port, more="") for i in range(n))
        master = Master(program, hooks)
        time.sleep(10)
        sizes.append(master.rss())
        master.stop()
    print(f"memory: {(sizes[1] - sizes[0]) / (notifiers - 1):.1f} KiB an idle notifier ({sizes[0]} and {sizes[1]} KiB)")


main()
