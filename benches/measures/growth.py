"""Growth: does a master become slower as its history grows? Two databases of one-step builds without logs, a small and a large one:
the same reads, start, memory and builds of both."""
import os
import random
import time

import clients
import machine
from farm import Failed, Farm
from measures.burst import await_all, force, pause
from measures.reads import BUILDERS, JSON, Changes
from measures.sample import Sample
from rest import Rest

SMALL = 100_000
PLACES = 2_000  # different builds that are asked for
SETTLE_S = 2.0


def _paths(farm, rest, rows):
    """What is asked for: a name, the paths, how many entities an answer has, and whether changes come in meanwhile.

    Builds are asked for all over the history and only now and then twice, so that answers are made, not kept."""
    dice, last = random.Random(7), rest.list("builds?limit=1&order=-buildid")[0]["buildid"]
    if rest.total("builds") != rows:
        raise Failed(f"{rest.total('builds')} builds instead of {rows}")
    builds = [last - dice.randrange(rows) for _ in range(PLACES)]
    ids = farm.builder_ids()
    return [
        (f"list of {BUILDERS} builders", [f"builders?limit={BUILDERS}"], BUILDERS, True),
        ("newest 50 builds", ["builds?limit=50&order=-buildid"], 50, True),
        ("a builder's last 20 builds", [f"builders/{id}/builds?limit=20&order=-number" for id in ids], 20, True),
        ("a build with properties", [f"builds/{id}?property=*" for id in builds], 1, False),
        ("a build's steps", [f"builds/{id}/steps" for id in builds], 1, False),
    ]


def _size_mb(directory):
    return sum(os.path.getsize(os.path.join(root, file)) for root, _, files in os.walk(directory) for file in files) / 1e6


def _ask(farm, options, paths):
    """Milliseconds of each answer, and the figures."""
    cpu = farm.master_cpu_s()
    times = clients.run(farm.port, [f"/api/v2/{path}" for path in paths], JSON, options.processes, options.connections,
                        options.seconds)
    cpu = farm.master_cpu_s() - cpu
    if not times:
        raise Failed(f"nobody answered {paths[0]}")
    return {"requests_s": len(times) / options.seconds, "read_p50_ms": machine.percentile(times, .5),
            "read_p99_ms": machine.percentile(times, .99), "read_cpu_us": 1e6 * cpu / len(times)}


def _reads(farm, options, rows, small):
    """All reads; `small` has what they cost on the small database."""
    with Rest(farm.port) as rest:
        paths = _paths(farm, rest, rows)
        for name, some, count, _ in paths:
            answer = rest.get(some[0])
            found = len(next(value for key, value in answer.items() if key != "meta"))
            if found != count:
                raise Failed(f"{some[0]} has {found} entities instead of {count}")
    for name, some, _, busy in paths:
        if busy:
            with Changes(farm.port) as changes:
                values = _ask(farm, options, some)
            changes.verify()
        else:
            values = _ask(farm, options, some)
        if name in small:
            # Requests of one kind keep the master busy, so the CPU of one tells better than its time how much work it is.
            values["read_times"] = values["read_cpu_us"] / small[name]["read_cpu_us"]
        small.setdefault(name, values)
        yield Sample("growth", f"{rows:,} builds: {name}", values)


def _builds(farm, options):
    """A burst of builds on the grown database."""
    with Rest(farm.port) as rest:
        done = rest.total("buildrequests?complete=true")
        pause(rest, "pause")
        force(farm, options.builds)
        cpu, begun = farm.master_cpu_s(), time.perf_counter()
        pause(rest, "unpause")
        await_all(rest, done + options.builds, seconds=60 + options.builds / 5)
        seconds, cpu = time.perf_counter() - begun, farm.master_cpu_s() - cpu
    return {"builds_s": options.builds / seconds, "master_cpu_ms": 1000 * cpu / options.builds}


def measure(options, directory):
    """The small database first, then the large one, which is removed as soon as it was measured."""
    small = {}
    for rows in (SMALL, options.grown):
        extra = "[retention]\nenabled = false\n"
        place = directory / str(rows)
        with Farm(options.binary, place, builders=BUILDERS, agents=4, extra=extra) as farm:
            values = {"populated_s": farm.populate(rows, steps=1, logs=0)}
            values["start_ms"] = 1000 * farm.start()
            values["start_cpu_ms"] = 1000 * farm.master_cpu_s()
            time.sleep(SETTLE_S)
            values["rss_mib"] = farm.memory_mib()
            values["database_mb"] = _size_mb(place / "data")
            yield Sample("growth", f"{rows:,} builds: start", values)
            yield from _reads(farm, options, rows, small)
            farm.hire()
            values = _builds(farm, options) | {"peak_mib": farm.memory_mib("VmHWM")}
            yield Sample("growth", f"{rows:,} builds: {options.builds} more", values)
