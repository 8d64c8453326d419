"""What the machine gives: cores, its disk's fdatasync, its spawn rate; and what processes take of it."""
import os
import pathlib
import shutil
import time

TICKS = os.sysconf("SC_CLK_TCK")


def percentile(values, share):
    """The value below which this share (0..1) of the values lies, interpolated; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def fdatasync_ms(directory, count=100, seconds=2.0):
    """Milliseconds that each of at most `count` appends of 4 KiB takes to be on this directory's disk."""
    path = pathlib.Path(directory) / "fdatasync"
    block, times = os.urandom(4096), []
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        end = time.perf_counter() + seconds
        while len(times) < count and time.perf_counter() < end:
            begun = time.perf_counter()
            os.write(handle, block)
            os.fdatasync(handle)
            times.append(1000 * (time.perf_counter() - begun))
    finally:
        os.close(handle)
        path.unlink()
    return times


def spawns_per_second(count=2000, seconds=1.0):
    """How often a second one thread can start `true` and wait for it."""
    program = shutil.which("true")
    begun = time.perf_counter()
    done = 0
    while done < count and time.perf_counter() - begun < seconds:
        os.waitpid(os.posix_spawn(program, ["true"], {}), 0)
        done += 1
    return done / (time.perf_counter() - begun)


def file_system(directory):
    """The type of the file system that the directory is on."""
    path = os.path.realpath(directory)
    best, kind = "", "?"
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, point, found = line.split()[:3]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, found
    return kind


def _stat(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rsplit(")", 1)[1].split()


def cpu_s(pid, children=False):
    """CPU seconds, user and system, of a process; or those of its children that have ended. 0 if it is gone."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / TICKS


def memory_mib(pid, field="VmRSS"):
    """Resident memory of a process in MiB: `VmRSS` now, `VmHWM` at its peak. 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(rows.get(field, "0 kB").split()[0]) / 1024


def _family_cpu_s():
    """CPU seconds of this program and all that it started, ended ones included."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            children.setdefault(int(_stat(name)[1]), []).append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    total, left = 0.0, [os.getpid()]
    while left:
        pid = left.pop()
        total += cpu_s(pid) + cpu_s(pid, children=True)
        left.extend(children.get(pid, []))
    return total


def _busy_s():
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _idle, _wait, irq, soft, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft + stolen) / TICKS


class Others:
    """How much of the machine strangers use meanwhile: figures in seconds suffer from them."""

    def __init__(self):
        self.begun = self._now()

    @staticmethod
    def _now():
        return time.monotonic(), _busy_s(), _family_cpu_s()

    def share(self):
        """Their share of all cores since the start, 0..1."""
        seconds, busy, own = (now - then for now, then in zip(self._now(), self.begun))
        return round(max(0.0, busy - own) / max(seconds, 0.01) / (os.cpu_count() or 1), 3)


def wait_for_quiet(seconds, share=.1):
    """Waits, but not longer than so many seconds, until strangers use less than this share of the machine."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch = Others()
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        if watch.share() < share:
            return
