"""Reads: clients with connections that stay open ask a master with a large database for what pages show."""
import threading
import time

import clients
import machine
from farm import Failed, Farm
from measures.sample import Sample
from rest import Rest

BUILDERS = 500
JSON = "application/json"  # what the page asks for; `*/*`, of curl and others, is answered with indented text
CHANGE_EVERY_S = 0.05
# The console of changes that are built. Those far back have left what a master keeps when these are asked for.
CONSOLES = [
    ("console of 50 changes", "console?limit=50&branch=main"),
    ("console far back", "console?limit=50&branch=main&changeid__lt=60"),
]


def _paths(farm, rest, rows):
    """What is asked for: a name, the path, and how many entities its answer must have."""
    builder = farm.builder_ids()[0]
    build = rest.list("builds?limit=1&order=-buildid")[0]["buildid"] - rows // 2
    if rest.total("builds") != rows or not rest.list(f"builds/{build}", "builds"):
        raise Failed(f"{rest.total('builds')} builds instead of {rows}")
    return [
        (f"list of {BUILDERS} builders", f"builders?limit={BUILDERS}", BUILDERS),
        ("newest 50 builds", "builds?limit=50&order=-buildid", min(50, rows)),
        ("a builder's last 20 builds", f"builders/{builder}/builds?limit=20&order=-number", min(20, rows // BUILDERS)),
        ("a build with properties", f"builds/{build}?property=*", 1),
        ("a build's steps", f"builds/{build}/steps", 5),
    ]


class Changes(threading.Thread):
    """Sends a change every 50 ms, on a branch that nobody builds: so no answer stays right for long."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.ended, self.count, self.error = port, threading.Event(), 0, None

    def run(self):
        try:
            with Rest(self.port) as rest:
                while not self.ended.wait(CHANGE_EVERY_S):
                    rest.push_change(author="Ada", branch="elsewhere", revision=f"{self.count:040x}", comments="a change")
                    self.count += 1
        except OSError as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(60)

    def verify(self):
        """Fails if changes could not be sent."""
        if self.error or not self.count:
            raise Failed(f"changes cannot be sent: {self.error}")


def _ask(farm, options, name, path, accept):
    """Measures one path, asked for as this kind."""
    cpu, begun = farm.master_cpu_s(), time.perf_counter()
    times = clients.run(farm.port, [f"/api/v2/{path}"], accept, options.processes, options.connections, options.seconds)
    cpu, seconds = farm.master_cpu_s() - cpu, time.perf_counter() - begun
    if not times:
        raise Failed(f"nobody answered {path}")
    return Sample("reads", name, {
        "requests_s": len(times) / options.seconds,
        "read_p50_ms": machine.percentile(times, .5),
        "read_p99_ms": machine.percentile(times, .99),
        "read_cpu_us": 1e6 * cpu / len(times),
        "read_cores": cpu / seconds,
    })


def measure(options, directory):
    """Requests a second, their times, and what the master needs for each, for one path after another."""
    with Farm(options.binary, directory, builders=BUILDERS, agents=4) as farm:
        farm.populate(options.rows)
        farm.start()
        with Rest(farm.port) as rest:
            paths = _paths(farm, rest, options.rows)
            for _, path, count in paths:
                answer = rest.get(path)
                found = len(next(value for key, value in answer.items() if key != "meta"))
                if found != count:
                    raise Failed(f"{path} has {found} entities instead of {count}")
        for name, path, _ in paths:
            yield _ask(farm, options, name, path, JSON)
        for name, path, _ in paths[:2]:
            yield _ask(farm, options, f"{name}, as plain text", path, "*/*")
        for name, path in [(name, path) for name, path, _ in paths[:2]] + CONSOLES:
            with Changes(farm.port) as changes:
                yield _ask(farm, options, f"{name}, while changes come in", path, JSON)
            changes.verify()
