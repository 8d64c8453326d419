"""A farm to measure: one master with its configuration and data in a directory of its own, and agents."""
import json
import pathlib
import signal
import socket
import subprocess
import time

import machine
from rest import Rest


# The url of the next farm's database; none: SQLite in its directory.
next_database = None


class Failed(Exception):
    """A measurement that could not be made, or whose result is wrong."""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process, seconds):
    """Ends a process that we started: asks, and kills it if it does not end in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Farm:
    """Use it with `with`: whatever it started is ended at the end. Builders are called b0, b1, …; agents w0, w1, …"""

    def __init__(self, binary, directory, builders=1, agents=1, max_builds=4, command=("true",), extra=""):
        self.binary, self.dir = binary, pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self.names = [f"b{n}" for n in range(builders)]
        self.agent_names = [f"w{n}" for n in range(agents)]
        self.master, self.agents = None, []
        (self.dir / "farm.toml").write_text(self._configuration(max_builds, list(command)) + extra, encoding="utf-8")

    def _configuration(self, max_builds, command):
        """TOML; JSON's strings and arrays of them are TOML's as well."""
        parts = ['[master]\nname = "bench"\ndata-dir = "data"\n'
                 f'[www]\nlisten = "127.0.0.1:{self.port}"\nauth = "none"\nchange-hooks = ["base"]\n']
        if next_database:
            parts.append(f'[database]\nurl = {json.dumps(next_database())}\n')
        parts += [f'[workers.{name}]\npassword = "pass"\nmax-builds = {max_builds}\n'
                  for name in self.agent_names]
        parts += [f'[builders.{name}]\nworkers = {json.dumps(self.agent_names)}\ncollapse = "never"\n'
                  f'[[builders.{name}.steps]]\nname = "step"\nrun = {json.dumps(command)}\n' for name in self.names]
        parts.append('[schedulers.force]\nkind = "force"\nbuilders = "*"\n[schedulers.change]\n'
                     f'kind = "single-branch"\nbuilders = {json.dumps(self.names[:1])}\nfilter = {{ branch = ["main"] }}\n')
        return "".join(parts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for agent in self.agents:
            if agent.poll() is None:
                agent.send_signal(signal.SIGTERM)
        for agent in self.agents:
            _end(agent, 10)
        self.stop()

    def _spawn(self, log, *words):
        with open(self.dir / log, "ab") as output:
            return subprocess.Popen([self.binary, *words], cwd=self.dir, stdin=subprocess.DEVNULL,
                                    stdout=output, stderr=subprocess.STDOUT)

    def start(self, seconds=60):
        """Starts the master; the seconds from its start to its first 200 of /api/v2/masters."""
        begun = time.perf_counter()
        self.master = self._spawn("master.log", "master", "--config", "farm.toml")
        while time.perf_counter() - begun < seconds:
            if self.master.poll() is not None:
                raise Failed(f"the master ended with {self.master.returncode}: {self._tail('master.log')}")
            try:
                with Rest(self.port) as rest:
                    rest.get("masters")
                return time.perf_counter() - begun
            except OSError:
                time.sleep(0.001)
        raise Failed(f"the master does not serve after {seconds} s: {self._tail('master.log')}")

    def stop(self):
        """Stops the master."""
        if self.master:
            _end(self.master, 20)

    def hire(self, seconds=30):
        """Starts all agents and waits until each is connected."""
        (self.dir / "password").write_text("pass\n", encoding="utf-8")
        (self.dir / "password").chmod(0o600)
        for name in self.agent_names:
            self.agents.append(self._spawn(
                f"{name}.log", "worker", "--master", f"ws://127.0.0.1:{self.port}", "--name", name,
                "--password-file", "password", "--dir", f"work-{name}"))
        end = time.monotonic() + seconds
        with Rest(self.port) as rest:
            while time.monotonic() < end:
                if all(worker["connected_to"] for worker in rest.list("workers")):
                    return
                time.sleep(0.02)
        raise Failed(f"not all agents are connected after {seconds} s: {self._tail('w0.log')}")

    def populate(self, builds, steps=5, logs=1, seconds=3600):
        """Fills the stopped master's database with finished builds; builds a second."""
        words = [self.binary, "populate", "--config", "farm.toml", "--builds", str(builds), "--steps", str(steps),
                 "--logs", str(logs)]
        begun = time.perf_counter()
        try:
            done = subprocess.run(words, cwd=self.dir, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"no populated database after {seconds} s") from error
        if done.returncode:
            raise Failed(f"populate ended with {done.returncode}: {done.stderr[-500:]}")
        return builds / (time.perf_counter() - begun)

    def _tail(self, log):
        return (self.dir / log).read_text(encoding="utf-8", errors="replace")[-800:]

    def master_cpu_s(self):
        """CPU seconds of the master so far."""
        return machine.cpu_s(self.master.pid)

    def agents_cpu_s(self):
        """CPU seconds of the agents so far, and of the commands that they ran."""
        pids = [agent.pid for agent in self.agents]
        return sum(machine.cpu_s(pid) for pid in pids), sum(machine.cpu_s(pid, children=True) for pid in pids)

    def memory_mib(self, field="VmRSS"):
        """The master's memory, see `machine.memory_mib`."""
        return machine.memory_mib(self.master.pid, field)

    def builder_ids(self):
        """The ids of all builders."""
        with Rest(self.port) as rest:
            return [builder["builderid"] for builder in rest.list(f"builders?limit={len(self.names)}")]
