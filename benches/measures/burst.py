"""A burst of trivial builds: queued while all workers are paused, then let go at once. What several measures do."""
import concurrent.futures
import threading
import time

from farm import Failed
from rest import Rest

BUILDERS, AGENTS, MAX_BUILDS = 20, 4, 4
ASKING = 8  # connections that force builds
MIN_POLL_S, MAX_POLL_S = 0.02, 1.0


def force(farm, count):
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


def pause(rest, method):
    """Pauses all workers, or lets them go (`unpause`)."""
    for worker in rest.list("workers"):
        rest.call(f"workers/{worker['workerid']}", method)


def await_all(rest, count, seconds):
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


def verify(rest, count):
    """Every request succeeded, by one build each."""
    found = {name: rest.total(path) for name, path in {
        "requests": "buildrequests", "successful requests": "buildrequests?results=0",
        "builds": "builds", "successful builds": "builds?complete=true&results=0"}.items()}
    if any(number != count for number in found.values()):
        raise Failed(f"{count} builds were asked for: {found}")


def events(rest):
    """How many state changes the master has committed, and in how many transactions."""
    writer = rest.list("actors/db-writer", "actors")[0]["observed"]
    return writer["events"], writer["commits"]
