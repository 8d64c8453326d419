"""The measures by name, in the order in which they run.

Each takes the options and a fresh directory and yields samples."""
from measures import fanout, floor, growth, idle, latency, logs, reads, retention, start, throughput

ALL = {
    "machine": floor.measure,
    "start": start.measure,
    "throughput": throughput.measure,
    "latency": latency.measure,
    "retention": retention.measure,
    "logs": logs.measure,
    "reads": reads.measure,
    "fanout": fanout.measure,
    "idle": idle.measure,
}

# Those that take many minutes and gigabytes run only when they are named.
LONG = {
    "growth": growth.measure,
}
