#!/usr/bin/env python3
"""Says in which layer a recorded master spent its CPU: `benches/layers.py FILE`, of `benches/run --perf FILE`.

A sample belongs to the innermost function of one of our crates on its stack, so that allocation, copying and
library code count for the crate that asked for them. SQLite works on a thread of its own and is told apart by what it does."""
import collections
import re
import subprocess
import sys

FRAME = re.compile(r"\s+[0-9a-f]+ (.*) \(.*\)$")
CRATE = re.compile(r"greenroom_(\w+?)::")
SQLITE = [  # what an SQLite thread does, by what is on its stack, in this order
    ("SQLite: fsync", re.compile(r"fsync|fdatasync")),
    ("SQLite: checkpoint of the WAL", re.compile(r"Checkpoint")),
    ("SQLite: statements", re.compile(r"sqlite3")),
    ("SQLite's thread: hand-over, wake-ups, allocation", re.compile(r"")),
]
ELSE = [  # what other threads do when no crate of ours is on the stack
    ("event loop: epoll", re.compile(r"epoll|mio::poll")),
    ("SQLx, caller's side", re.compile(r"sqlx")),
    ("actix-web", re.compile(r"actix_(web|http|server)")),
    ("the rest", re.compile(r"")),
]


def samples(file):
    """The samples of a recording: the thread's name and its stack, innermost function first."""
    words = ["perf", "script", "-i", file, "--no-inline", "-F", "comm,ip,sym,dso"]
    text = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600, check=True).stdout
    for block in text.split("\n\n"):
        thread, *rows = block.strip("\n").split("\n")
        if thread.strip():
            yield thread.strip(), [found.group(1) for found in map(FRAME.match, rows) if found]


def layer(thread, stack):
    """Where a sample belongs."""
    names = " ".join(stack)
    if thread.startswith("sqlx-sqlite"):
        return next(name for name, pattern in SQLITE if pattern.search(names))
    for frame in stack:
        found = CRATE.search(frame)
        if found and found.group(1) != "runtime":  # the base of every actor: only if nobody else is there
            return f"crate {found.group(1)}"
    return "crate runtime" if CRATE.search(names) else next(name for name, pattern in ELSE if pattern.search(names))


def main():
    """Prints two tables: layers, and innermost functions."""
    layers, functions = collections.Counter(), collections.Counter()
    for thread, stack in samples(sys.argv[1]):
        layers[layer(thread, stack)] += 1
        functions[stack[0] if stack else "?"] += 1
    total = max(1, sum(layers.values()))
    print(f"{total} samples")
    for table in (layers, functions):
        print()
        for name, count in table.most_common(20):
            print(f"{100 * count / total:5.1f} %  {name[:110]}")


if __name__ == "__main__":
    main()
