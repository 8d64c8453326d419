"""Idle subscribers: what each costs in memory, and whether it costs anything when others' events happen."""
import time

from farm import Farm
from measures.burst import AGENTS, BUILDERS, MAX_BUILDS, await_all, force, pause, verify
from measures.fanout import Crowd
from measures.sample import Sample
from rest import Rest

NOTHING_S = 10.0
# Builds of no builder: a pattern like those of pages, which no event of the burst meets.
NOBODYS = "builds/999999999/*"


def _quiet(farm):
    """Milliseconds of CPU that the master uses in a second in which nothing happens."""
    cpu = farm.master_cpu_s()
    time.sleep(NOTHING_S)
    return 1000 * (farm.master_cpu_s() - cpu) / NOTHING_S


def _burst(rest, farm, count, done):
    """Milliseconds of CPU a build."""
    pause(rest, "pause")
    force(farm, count)
    time.sleep(0.5)
    cpu = farm.master_cpu_s()
    pause(rest, "unpause")
    await_all(rest, done + count, seconds=60 + count / 5)
    cpu = farm.master_cpu_s() - cpu
    verify(rest, done + count)
    return 1000 * cpu / count


def measure(options, directory):
    """The same master and the same burst before and while so many are subscribed."""
    count = options.builds
    with Farm(options.binary, directory, BUILDERS, AGENTS, MAX_BUILDS) as farm:
        farm.start()
        farm.hire()
        with Rest(farm.port) as rest:
            _burst(rest, farm, count, 0)  # warm
            before = _burst(rest, farm, count, count)
            quiet, memory = _quiet(farm), farm.memory_mib()
            yield Sample("idle", "no subscribers", {"master_cpu_ms": before, "quiet_cpu_ms": quiet, "rss_mib": memory})
            with Crowd(farm, options.idle, NOBODYS) as crowd:
                grown = farm.memory_mib() - memory
                values = {"master_cpu_ms": _burst(rest, farm, count, 2 * count), "quiet_cpu_ms": _quiet(farm)}
                seen = crowd.end()
            values |= {"rss_mib": memory + grown, "subscriber_kib": 1024 * grown / options.idle,
                       "idle_frames": seen["frames"], "idle_closed": seen["closed_clients"]}
            yield Sample("idle", f"{options.idle} subscribers of something else", values)
