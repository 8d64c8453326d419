"""Logs: one step that prints much, read at its end meanwhile; then the whole log is read back and compared."""
import hashlib
import pathlib
import sys
import threading
import time

import machine
import print_log
from farm import Failed, Farm
from feed import Feed
from measures.sample import Sample
from rest import Rest

PRINTER = pathlib.Path(print_log.__file__).resolve()
TAIL_LINES, TAIL_EVERY_S = 100, 0.25
HEAD_MOST, END_MOST = 64 << 10, 64 << 10  # what a raw log has around the text: the master's own lines


def _log_of(rest, build):
    """The log of the build's step; None if there is none yet."""
    for step in rest.list(f"builds/{build}/steps"):
        if step["name"] == "step":
            for log in rest.list(f"steps/{step['stepid']}/logs"):
                return log
    return None


class Tail(threading.Thread):
    """Reads the last lines of a build's log a few times a second, as somebody who watches it does."""

    def __init__(self, port, build):
        super().__init__(daemon=True)
        self.port, self.build = port, build
        self.ended, self.times, self.error = threading.Event(), [], None

    def run(self):
        try:
            with Rest(self.port) as rest:
                while not self.ended.wait(TAIL_EVERY_S):
                    self._read(rest)
        except OSError as error:
            self.error = error

    def _read(self, rest):
        log = _log_of(rest, self.build)
        if log and log["num_lines"]:
            begun = time.perf_counter()
            first = max(0, log["num_lines"] - TAIL_LINES)
            rest.list(f"logs/{log['logid']}/contents?offset={first}&limit={TAIL_LINES}", "logchunks")
            self.times.append(1000 * (time.perf_counter() - begun))

    def finish(self):
        """Ends it; the milliseconds that each read took."""
        self.ended.set()
        self.join(60)
        if self.error or self.is_alive():
            raise Failed(f"the end of the log cannot be read: {self.error or 'it hangs'}")
        return self.times


def _raw_text(rest, log, total):
    """Reads a raw log; the SHA-256 of the `total` bytes that begin with the text's first line."""
    found, head, left, behind = hashlib.sha256(), b"", total, 0
    begun = False
    for piece in rest.pieces(f"logs/{log}/raw"):
        if not begun:
            head += piece
            place = head.find(print_log.FIRST)
            if place < 0:
                if len(head) > HEAD_MOST:
                    break
                continue
            begun, piece = True, head[place:]
        found.update(piece[:left])
        behind += max(0, len(piece) - left)
        left = max(0, left - len(piece))
    if not begun or left or behind > END_MOST:
        raise Failed(f"the raw log is not what was printed: begun {begun}, {left} bytes missing, {behind} after the end")
    return found.hexdigest()


def _printed(total):
    """The SHA-256 of what the step prints."""
    text = hashlib.sha256()
    for piece in print_log.pieces(total):
        text.update(piece)
    return text.hexdigest()


def _watch(farm, rest, feed, total):
    """Runs the build and reads along; seconds from its start to its end, its log, times of the reads."""
    rest.call("forceschedulers/force", "force", builderNames=farm.names[:1], reason="bench")
    begun, build = feed.until("/new", 30)
    tail = Tail(farm.port, build["buildid"])
    tail.start()
    ended, build = feed.until("/finished", 60 + total / 1e6)
    times = tail.finish()
    log = _log_of(rest, build["buildid"])
    if build["results"] != 0 or not log:
        raise Failed(f"the build did not succeed: {build}")
    return ended - begun, log, times


def measure(options, directory):
    """MB/s from the build's start to its end (1 MB is a million bytes), CPU and memory; then MB/s of `/raw`."""
    total = options.log_mb * 1_000_000
    words = [sys.executable, str(PRINTER), str(total)]
    with Farm(options.binary, directory, command=words) as farm:
        farm.start()
        farm.hire()
        with Rest(farm.port, timeout=60) as rest, Feed(farm.port, "builds/*/*") as feed:
            master, (agent, _) = farm.master_cpu_s(), farm.agents_cpu_s()
            seconds, log, tails = _watch(farm, rest, feed, total)
            master, agent = farm.master_cpu_s() - master, farm.agents_cpu_s()[0] - agent
            peak = farm.memory_mib("VmHWM")
            begun = time.perf_counter()
            got = _raw_text(rest, log["logid"], total)
            raw_seconds = time.perf_counter() - begun
        if got != _printed(total):
            raise Failed("the raw log is not what was printed: its SHA-256 differs")
        yield Sample("logs", f"{options.log_mb} MB, {total // print_log.LINE} lines", {
            "log_mb_s": total / 1e6 / seconds,
            "log_cpu_s": master,
            "agent_cpu_s": agent,
            "peak_mib": peak,
            "agent_peak_mib": machine.memory_mib(farm.agents[0].pid, "VmHWM"),
            "tail_reads": len(tails),
            "tail_p50_ms": machine.percentile(tails, .5),
            "tail_max_ms": max(tails, default=0.0),
            "raw_mb_s": total / 1e6 / raw_seconds,
            "raw_peak_mib": farm.memory_mib("VmHWM"),
        })
