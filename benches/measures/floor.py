"""The machine itself: what every other figure is to be read beside."""
import os

import machine
from measures.sample import Sample


def measure(_options, directory):
    """Cores, fdatasync, spawn rate."""
    syncs = machine.fdatasync_ms(directory, count=500)
    yield Sample("machine", machine.file_system(directory), {
        "cores": os.cpu_count(),
        "fsync_p50_ms": machine.percentile(syncs, .5),
        "fsync_p95_ms": machine.percentile(syncs, .95),
        "spawns_s": machine.spawns_per_second(),
    })
