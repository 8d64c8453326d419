"""The table of all figures, with the bounds that they must keep."""
import statistics

# Every figure: its words, its unit, digits after the point.
FIGURES = {
    "cores": ("cores", "", 0),
    "fsync_p50_ms": ("fdatasync of 4 KiB, p50", "ms", 2),
    "fsync_p95_ms": ("fdatasync of 4 KiB, p95", "ms", 2),
    "spawns_s": ("spawn and wait of `true`", "/s", 0),
    "start_ms": ("start to the first 200", "ms", 0),
    "start_cpu_ms": ("CPU of the start", "ms", 0),
    "rss_mib": ("RSS after 2 s", "MiB", 1),
    "peak_mib": ("peak RSS", "MiB", 1),
    "builds_s": ("builds", "/s", 0),
    "changes_s": ("state changes stored", "/s", 0),
    "changes_a_commit": ("state changes in one commit", "", 1),
    "master_cpu_ms": ("master CPU a build", "ms", 2),
    "agent_cpu_ms": ("agents' CPU a build", "ms", 2),
    "command_cpu_ms": ("CPU of the command itself", "ms", 2),
    "forces_s": ("builds queued by REST", "/s", 0),
    "force_cpu_ms": ("master CPU a queued build", "ms", 2),
    "answered_p50_ms": ("change to the hook's answer, p50", "ms", 1),
    "answered_p95_ms": ("change to the hook's answer, p95", "ms", 1),
    "started_p50_ms": ("change to started, p50", "ms", 1),
    "started_p95_ms": ("change to started, p95", "ms", 1),
    "started_p50_fsyncs": ("change to started, p50", "fsyncs", 1),
    "finished_p50_ms": ("change to finished, p50", "ms", 1),
    "finished_p95_ms": ("change to finished, p95", "ms", 1),
    "finished_p50_fsyncs": ("change to finished, p50", "fsyncs", 1),
    "change_cpu_ms": ("master CPU a change with its build", "ms", 2),
    "log_mb_s": ("output, end to end", "MB/s", 1),
    "log_cpu_s": ("master CPU", "s", 2),
    "agent_cpu_s": ("agent's CPU", "s", 2),
    "agent_peak_mib": ("agent's peak RSS", "MiB", 1),
    "tail_reads": ("reads of the log's end meanwhile", "", 0),
    "tail_p50_ms": ("read of the log's end, p50", "ms", 1),
    "tail_max_ms": ("read of the log's end, slowest", "ms", 1),
    "raw_mb_s": ("raw log read back (SHA-256 is right)", "MB/s", 1),
    "raw_peak_mib": ("peak RSS after that", "MiB", 1),
    "requests_s": ("requests", "/s", 0),
    "read_p50_ms": ("time of a request, p50", "ms", 2),
    "read_p99_ms": ("time of a request, p99", "ms", 2),
    "read_cpu_us": ("master CPU a request", "µs", 0),
    "read_cores": ("cores that the master used", "", 2),
    "removed": ("builds removed meanwhile", "", 0),
    "removed_s": ("builds removed", "/s", 0),
    "removing": ("still at it at the end (1: yes)", "", 0),
    "events_each": ("events that each subscriber got, in one order", "", 0),
    "frames_s": ("frames sent", "/s", 0),
    "fanout_mb": ("sent to subscribers", "MB", 0),
    "client_cpu_ms": ("subscribers' own CPU a build", "ms", 2),
    "fall_percent": ("builds/s less than without", "%", 0),
    "fall_apart_percent": ("the same, did subscribers run elsewhere", "%", 0),
    "quiet_cpu_ms": ("master CPU a second, nothing happens", "ms", 1),
    "subscriber_kib": ("memory of an idle subscriber", "KiB", 1),
    "idle_frames": ("events that idle subscribers got", "", 0),
    "idle_closed": ("idle subscribers that were closed", "", 0),
    "populated_s": ("builds that `populate` writes", "/s", 0),
    "database_mb": ("database", "MB", 0),
    "read_times": ("time of a request beside the small database", "×", 2),
    "rss_times": ("memory beside the small database", "×", 2),
}


def _most(limit):
    return lambda value, _: (value <= limit, f"≤ {limit:g}")


def _least(limit):
    return lambda value, _: (value >= limit, f"≥ {limit:g}")


def _four_fsyncs(value, medians):
    limit = 4 * medians["fsync_p50_ms"] + 5
    return value <= limit, f"≤ {limit:.1f} (4 fsyncs + 5 ms)"


# What must hold: measure, how its case begins, figure.
BOUNDS = {
    ("start", "500 builders", "start_ms"): _most(300),
    ("start", "500 builders", "rss_mib"): _most(60),
    ("throughput", "on sqlite", "builds_s"): _least(200),
    ("throughput", "on sqlite", "master_cpu_ms"): _most(1.5),
    ("throughput", "on postgres", "changes_s"): _least(3000),
    ("latency", "", "started_p50_ms"): _four_fsyncs,
    ("logs", "", "log_mb_s"): _least(30),
    ("reads", "list of 500 builders", "requests_s"): _least(2000),
    ("reads", "newest 50 builds", "requests_s"): _least(2000),
    ("fanout", "200 subscribers", "fall_apart_percent"): _most(20),
    ("idle", "10000 subscribers", "subscriber_kib"): _most(64),
    ("growth", "", "read_times"): _most(1.5),
}


def _number(name, value):
    return f"{value:,.{FIGURES[name][2]}f}"


def line(sample):
    """One sample in one line."""
    figures = (f"{FIGURES[name][0]} {_number(name, value)} {FIGURES[name][1]}".strip()
               for name, value in sample.values.items())
    others = f" (others used {100 * sample.others:.0f} % of the machine)" if sample.others >= .05 else ""
    return f"{sample.measure}, {sample.case}: {'; '.join(figures)}{others}"


def _bound(sample, name, value, medians):
    for (measure, case, figure), judge in BOUNDS.items():
        if (sample.measure, name) == (measure, figure) and sample.case.startswith(case):
            return judge(value, medians)
    return None


def _rows(samples):
    """The table's rows and how many bounds were missed."""
    groups, missed = {}, 0
    for sample in samples:
        groups.setdefault((sample.measure, sample.case), []).append(sample)
    rows = []
    for group in groups.values():
        medians = {name: statistics.median(one.values[name] for one in group) for name in group[0].values}
        case = f"{group[0].measure}: {group[0].case}"
        for name, median in medians.items():
            all_values = [one.values[name] for one in group]
            span = f"{_number(name, min(all_values))}–{_number(name, max(all_values))}" if len(group) > 1 else ""
            judged = _bound(group[0], name, median, medians)
            missed += bool(judged and not judged[0])
            verdict = f"{judged[1]}: {'kept' if judged[0] else 'MISSED'}" if judged else ""
            label, unit, _ = FIGURES[name]
            rows.append([case, label, _number(name, median), unit, span, verdict])
            case = ""
        others = statistics.median(one.others for one in group)
        if others >= .05:
            rows.append(["", "used by other programs meanwhile", f"{100 * others:.0f}", "%", "", ""])
    return rows, missed


def show(samples):
    """Prints the table, in Markdown; how many bounds were missed."""
    head = ["Measure", "Figure", "Median", "Unit", "Min–max", "Bound"]
    rows, missed = _rows(samples)
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]

    def text(row):
        cells = (cell.rjust(width) if n in (2, 4) else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths)))
        return "| " + " | ".join(cells) + " |"

    rules = ["-" * (width - 1) + ":" if n in (2, 4) else "-" * width for n, width in enumerate(widths)]
    print("\n".join(map(text, [head, rules, *rows])))
    return missed
