"""Fan-out: a burst of builds without subscribers, and with many who want every event of it."""
import contextlib
import json
import pathlib
import select
import subprocess
import sys
import time

import crowd
from farm import Failed, Farm
from measures.burst import AGENTS, BUILDERS, MAX_BUILDS, await_all, force, pause, verify
from measures.sample import Sample
from rest import Rest

PROGRAM = pathlib.Path(crowd.__file__).resolve()
READY_S = 180


class Crowd:
    """The program crowd.py as a process, its clients subscribed to a path."""

    def __init__(self, farm, count, path):
        words = [sys.executable, str(PROGRAM), str(farm.port), str(count), path]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.count = count

    def __enter__(self):
        if not select.select([self.process.stdout], [], [], READY_S)[0] or self.process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise Failed(f"{self.count} clients could not subscribe")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def end(self):
        """Ends it when nothing comes any more; what it saw."""
        output, _ = self.process.communicate(b"end\n", timeout=60)
        if self.process.returncode:
            raise Failed("the clients failed")
        return json.loads(output)


def _burst(options, directory, subscribers):
    """Builds a second, with so many subscribers of everything; what they saw."""
    count = options.builds
    with Farm(options.binary, directory / str(subscribers), BUILDERS, AGENTS, MAX_BUILDS) as farm, \
            contextlib.ExitStack() as stack:
        farm.start()
        farm.hire()
        rest = stack.enter_context(Rest(farm.port))
        pause(rest, "pause")
        force(farm, count)
        crowd_of = stack.enter_context(Crowd(farm, subscribers, "*/*/*")) if subscribers else None
        time.sleep(0.5)
        cpu, begun = farm.master_cpu_s(), time.perf_counter()
        pause(rest, "unpause")
        await_all(rest, count, seconds=60 + count / 5)
        seconds, cpu = time.perf_counter() - begun, farm.master_cpu_s() - cpu
        verify(rest, count)
        values = {"builds_s": count / seconds, "master_cpu_ms": 1000 * cpu / count}
        if crowd_of:
            seen = crowd_of.end()
            if seen["closed_clients"] or not seen["same"] or seen["finished"] != count:
                raise Failed(f"not all got all: {seen}")
            values |= {"events_each": seen["fewest"], "client_cpu_ms": 1000 * seen["cpu_s"] / count,
                       "fanout_mb": seen["mb"], "frames_s": seen["frames"] / max(seen["seconds"], .001),
                       "peak_mib": farm.memory_mib("VmHWM")}
        return values


def measure(options, directory):
    """Without and with subscribers. Clients share the cores with the master, so what they use is told apart."""
    alone = _burst(options, directory, 0)
    yield Sample("fanout", "no subscribers", alone)
    values = _burst(options, directory, options.subscribers)
    values["fall_percent"] = 100 * (1 - values["builds_s"] / alone["builds_s"])
    # As if the clients ran elsewhere: what they used of the cores would have been there for builds.
    without = 1 / values["builds_s"] - values["client_cpu_ms"] / 1000 / options.cores
    values["fall_apart_percent"] = 100 * (1 - 1 / without / alone["builds_s"]) if without > 0 else 0.0
    yield Sample("fanout", f"{options.subscribers} subscribers of everything", values)
