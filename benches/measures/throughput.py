"""Throughput: trivial builds that wait while all workers are paused, then are let go."""
import contextlib
import signal
import subprocess
import time

from farm import Farm
from measures.burst import AGENTS, BUILDERS, await_all, events, force, pause, verify
from measures.sample import Sample
from rest import Rest

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
    with Farm(options.binary, directory, BUILDERS, AGENTS, options.slots // AGENTS) as farm, contextlib.ExitStack() as stack:
        farm.start()
        farm.hire()
        rest = stack.enter_context(Rest(farm.port))
        pause(rest, "pause")
        before_queue = farm.master_cpu_s()
        queued = force(farm, count)
        queue_cpu = farm.master_cpu_s() - before_queue
        time.sleep(0.5)
        with _recorded(farm, options.perf):
            master, (agents, commands) = farm.master_cpu_s(), farm.agents_cpu_s()
            changes, commits = events(rest)
            begun = time.perf_counter()
            pause(rest, "unpause")
            await_all(rest, count, seconds=30 + count / 5)
            seconds = time.perf_counter() - begun
            changes_after, commits_after = events(rest)
            master_after, (agents_after, commands_after) = farm.master_cpu_s(), farm.agents_cpu_s()
        verify(rest, count)
        yield Sample("throughput", f"on {options.engine}, {count} builds, {options.slots} slots", {
            "builds_s": count / seconds,
            "changes_s": (changes_after - changes) / seconds,
            "changes_a_commit": (changes_after - changes) / max(1, commits_after - commits),
            "master_cpu_ms": 1000 * (master_after - master) / count,
            "agent_cpu_ms": 1000 * (agents_after - agents) / count,
            "command_cpu_ms": 1000 * (commands_after - commands) / count,
            "forces_s": queued,
            "force_cpu_ms": 1000 * queue_cpu / count,
            "peak_mib": farm.memory_mib("VmHWM"),
        })
