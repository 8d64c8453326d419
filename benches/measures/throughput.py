"""Throughput: trivial builds that wait while all workers are paused, then are let go."""
import concurrent.futures
import contextlib
import signal
import subprocess
import threading
import time

from farm import Failed, Farm
from measures.sample import Sample
from rest import Rest

BUILDERS, AGENTS, MAX_BUILDS = 20, 4, 4
ASKING = 8  # connections that force builds
MIN_POLL_S, MAX_POLL_S = 0.02, 1.0


def _force(farm, count):
    """Queues builds, round robin over the builders; requests a second."""
    ids, own = farm.builder_ids(), threading.local()
    open_ones = []

    def one(number):
        if not hasattr(own, "rest"):
            own.rest = Rest(farm.port)
            open_ones.append(own.rest)
        own.rest.call("forceschedulers/force", "force", builderid=ids[number % len(ids)], reason="bench")

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(ASKING) as pool:
        for _ in pool.map(one, range(count)):
            pass
    seconds = time.perf_counter() - begun
    for rest in open_ones:
        rest.connection.close()
    return count / seconds


def _pause(rest, method):
    for worker in rest.list("workers"):
        rest.call(f"workers/{worker['workerid']}", method)


def _await_all(rest, count, seconds):
    """Waits until every request is complete. It asks seldom at first and often towards the end, so as to disturb little."""
    begun = time.monotonic()
    while True:
        done = rest.total("buildrequests?complete=true")
        if done == count:
            return
        passed = time.monotonic() - begun
        if passed > seconds:
            raise Failed(f"{done} of {count} requests are complete after {seconds:.0f} s")
        left = passed * (count - done) / max(done, 1)
        time.sleep(min(MAX_POLL_S, max(MIN_POLL_S, left / 2)))


def _verify(rest, count):
    """Every request succeeded, by one build each."""
    found = {name: rest.total(path) for name, path in {
        "requests": "buildrequests", "successful requests": "buildrequests?results=0",
        "builds": "builds", "successful builds": "builds?complete=true&results=0"}.items()}
    if any(number != count for number in found.values()):
        raise Failed(f"{count} builds were asked for: {found}")


@contextlib.contextmanager
def _recorded(farm, file):
    """Records the master's stacks with perf while builds run, if there is a file for it."""
    if not file:
        yield
        return
    words = ["perf", "record", "-q", "-F", "199", "--call-graph", "dwarf,8192", "-p", str(farm.master.pid), "-o", file]
    perf = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        time.sleep(1)  # it attaches
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        try:
            perf.wait(60)
        except subprocess.TimeoutExpired:
            perf.kill()
            perf.wait()


def measure(options, directory):
    """Builds a second and CPU a build, from the first `unpause` to the last result."""
    count = options.builds
    with Farm(options.binary, directory, BUILDERS, AGENTS, MAX_BUILDS) as farm, contextlib.ExitStack() as stack:
        farm.start()
        farm.hire()
        rest = stack.enter_context(Rest(farm.port))
        _pause(rest, "pause")
        before_queue = farm.master_cpu_s()
        queued = _force(farm, count)
        queue_cpu = farm.master_cpu_s() - before_queue
        time.sleep(0.5)
        with _recorded(farm, options.perf):
            master, (agents, commands) = farm.master_cpu_s(), farm.agents_cpu_s()
            begun = time.perf_counter()
            _pause(rest, "unpause")
            _await_all(rest, count, seconds=30 + count / 5)
            seconds = time.perf_counter() - begun
            master_after, (agents_after, commands_after) = farm.master_cpu_s(), farm.agents_cpu_s()
        _verify(rest, count)
        yield Sample("throughput", f"{count} builds, {AGENTS * MAX_BUILDS} slots", {
            "builds_s": count / seconds,
            "master_cpu_ms": 1000 * (master_after - master) / count,
            "agent_cpu_ms": 1000 * (agents_after - agents) / count,
            "command_cpu_ms": 1000 * (commands_after - commands) / count,
            "forces_s": queued,
            "force_cpu_ms": 1000 * queue_cpu / count,
            "peak_mib": farm.memory_mib("VmHWM"),
        })
