"""The measures by name, in the order in which they run.

Each takes the options and a fresh directory and yields samples."""
from measures import floor, latency, logs, reads, start, throughput

ALL = {
    "machine": floor.measure,
    "start": start.measure,
    "throughput": throughput.measure,
    "latency": latency.measure,
    "logs": logs.measure,
    "reads": reads.measure,
}
