"""Retention: do builds wait while old history is removed? The same changes before and while the master removes."""
import time

import machine
from farm import Failed, Farm
from feed import Feed
from measures.latency import one_change
from measures.sample import Sample
from rest import Rest

BUILDERS, STEPS, KEEP = 50, 5, 20
CHANGES, WARM_UP = 100, 3


def _changes(rest, feed, first):
    """Milliseconds from change to started and finished, of each."""
    return [one_change(rest, feed, first + number)[1:] for number in range(CHANGES)]


def _removed(rest):
    """How many builds the janitor has removed, and whether it is at it."""
    janitor = rest.list("actors/janitor", "actors")[0]["observed"]
    return janitor["builds_deleted"], janitor["looking"]


def _sample(case, rows, more):
    values = {}
    for name, column in zip(("started", "finished"), zip(*rows)):
        values[f"{name}_p50_ms"] = machine.percentile(column, .5)
        values[f"{name}_p95_ms"] = machine.percentile(column, .95)
    return Sample("retention", case, values | more)


def measure(options, directory):
    """A history of which most must go; first nothing is removed (a first look comes minutes after the start), then it is."""
    extra = f"[retention]\nbuild-count = {KEEP}\nkeep-good = 1\n"
    with Farm(options.binary, directory, builders=BUILDERS, agents=1, extra=extra) as farm:
        farm.populate(options.rows)
        farm.start()
        farm.hire()
        with Rest(farm.port) as rest, Feed(farm.port, "builds/*/*") as feed:
            for number in range(WARM_UP):
                one_change(rest, feed, number)
            before = _changes(rest, feed, WARM_UP)
            if _removed(rest)[0]:
                raise Failed("history was removed before it was asked for")
            yield _sample(f"{options.rows} builds, nothing is removed", before, {})
            rest.call(f"masters/{rest.list('masters')[0]['masterid']}", "gc")
            begun = time.perf_counter()
            meanwhile = _changes(rest, feed, WARM_UP + CHANGES)
            removed, looking = _removed(rest)
            if not removed:
                raise Failed("nothing was removed meanwhile")
            seconds = time.perf_counter() - begun
            more = {"removed": removed, "removed_s": removed / seconds, "removing": int(looking)}
            yield _sample(f"{options.rows} builds, while old ones are removed", meanwhile, more)
