"""Latency: a change comes in by the hook; when does its build start, when is it finished, as seen on the live feed?"""
import time

import machine
from farm import Failed, Farm
from feed import Feed
from measures.sample import Sample
from rest import Rest

CHANGES, WARM_UP = 50, 3
PAUSE_S = 0.05  # between a result and the next change, so that each meets an idle master


def one_change(rest, feed, number):
    """Milliseconds from the change to: the hook's answer, build started, build finished."""
    begun = time.perf_counter()
    rest.push_change(author="Ada <ada@example.org>", branch="main", revision=f"{number:040x}",
                     comments=f"change {number}", files='["src/main.c"]')
    answered = time.perf_counter()
    started, _ = feed.until("/new", 30)
    finished, build = feed.until("/finished", 30)
    if build["results"] != 0:
        raise Failed(f"a build did not succeed: {build}")
    time.sleep(PAUSE_S)
    return [1000 * (moment - begun) for moment in (answered, started, finished)]


def measure(options, directory):
    """One change after another; the disk's fdatasync is measured before and after, in the same directory."""
    with Farm(options.binary, directory / "farm", builders=10, agents=1) as farm:
        farm.start()
        farm.hire()
        syncs = machine.fdatasync_ms(directory)
        with Rest(farm.port) as rest, Feed(farm.port, "builds/*/*") as feed:
            for number in range(WARM_UP):
                one_change(rest, feed, number)
            cpu = farm.master_cpu_s()
            rows = [one_change(rest, feed, WARM_UP + number) for number in range(CHANGES)]
            cpu = farm.master_cpu_s() - cpu
        syncs += machine.fdatasync_ms(directory)
    sync = machine.percentile(syncs, .5)
    values = {"fsync_p50_ms": sync}
    for name, column in zip(("answered", "started", "finished"), zip(*rows)):
        values[f"{name}_p50_ms"] = machine.percentile(column, .5)
        values[f"{name}_p95_ms"] = machine.percentile(column, .95)
        if name != "answered":
            values[f"{name}_p50_fsyncs"] = values[f"{name}_p50_ms"] / sync
    values["change_cpu_ms"] = 1000 * cpu / CHANGES
    yield Sample("latency", f"{CHANGES} changes", values)
