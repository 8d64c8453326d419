"""Start: from the process to the first 200 of /api/v2/masters, and the memory that a master then has."""
import time

from farm import Farm
from measures.sample import Sample

SETTLE_S = 2.0


def measure(options, directory):
    """With 10 and 500 builders: on an empty directory, and again when the database knows them."""
    for builders in (10, 500):
        with Farm(options.binary, directory / str(builders), builders=builders, agents=4) as farm:
            for case in ("first", "again"):
                seconds = farm.start()
                time.sleep(SETTLE_S)
                yield Sample("start", f"{builders} builders, {case}", {
                    "start_ms": 1000 * seconds,
                    "rss_mib": farm.memory_mib(),
                    "peak_mib": farm.memory_mib("VmHWM"),
                    "start_cpu_ms": 1000 * farm.master_cpu_s(),
                })
                farm.stop()
