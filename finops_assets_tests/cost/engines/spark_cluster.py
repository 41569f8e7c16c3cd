"""A real Spark cluster on loopback: a standalone master and workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from finops_assets_tests.emulators import free_port

READY_SECONDS = 60
DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1g",
    "spark.sql.shuffle.partitions": "4",
}
# Each of these processes lives for seconds: what the JVM would put into compiling code well it never gets back.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
FOR_TESTS = {"spark.driver.extraJavaOptions": SHORT_LIVED, "spark.executor.extraJavaOptions": SHORT_LIVED}


@contextmanager
def spark_configured(folder: Path, **changes: str) -> Iterator[None]:
    """Spark's own configuration, in its own place; what was started under it is stopped."""
    from finops_assets.cost.engines.spark import stop_session

    settings = DEFAULTS | {"spark.local.dir": str(folder / "scratch")} | changes
    (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    before = dict(os.environ)
    os.environ |= {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    try:
        yield
    finally:
        stop_session()
        os.environ.clear()
        os.environ |= before


@dataclass
class Cluster:
    """Its master, and the processes of its workers."""

    master: str
    page: str
    workers: list[subprocess.Popen[bytes]]
    start_worker: Callable[[], None]

    def complete(self) -> None:
        """Two workers, whichever were killed before."""
        while sum(worker.poll() is None for worker in self.workers) < 2:
            self.start_worker()
        deadline = time.monotonic() + READY_SECONDS
        while self.alive() < 2 and time.monotonic() < deadline:
            time.sleep(0.2)

    def alive(self) -> int:
        """How many workers the master knows to be alive."""
        with urllib.request.urlopen(f"{self.page}/json/", timeout=5) as answer:
            return int(json.load(answer)["aliveworkers"])

    def kill(self, worker: int) -> None:
        """Kill a worker and what it runs at once, as a machine that goes dark."""
        os.killpg(self.workers[worker].pid, signal.SIGKILL)
        self.workers[worker].wait()


@contextmanager
def spark_cluster(folder: Path, workers: int = 2, cores: int = 1, memory: str = "1g") -> Iterator[Cluster]:
    """A master and workers on free ports; everything that they write is below `folder`."""
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    environment = os.environ | {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    environment["SPARK_DAEMON_JAVA_OPTS"] = SHORT_LIVED
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"{len(started)}.log").open("wb") as log:
            command = [str(home / "bin" / "spark-class"), *arguments]
            # In a group of its own, with the executors that it starts.
            started.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
            )
        return started[-1]

    try:
        port, page = free_port(), free_port()
        place = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
        start("org.apache.spark.deploy.master.Master", *place)
        cluster = Cluster(f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{page}", [], lambda: start_worker())

        def start_worker() -> None:
            sized = ["--host", "127.0.0.1", "--cores", str(cores), "--memory", memory, "--webui-port", "0"]
            own = ["--work-dir", str(folder / f"worker-{len(cluster.workers)}"), cluster.master]
            cluster.workers.append(start("org.apache.spark.deploy.worker.Worker", *sized, *own))

        for _ in range(workers):
            start_worker()
        deadline = time.monotonic() + READY_SECONDS
        while _alive(cluster) < workers:
            if time.monotonic() > deadline or any(process.poll() is not None for process in started):
                logs = "\n".join(f"{file}:\n{file.read_text()[-1500:]}" for file in sorted(folder.glob("*.log")))
                raise RuntimeError(f"the cluster does not come up:\n{logs}")
            time.sleep(0.2)
        yield cluster
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _alive(cluster: Cluster) -> int:
    try:
        return cluster.alive()
    except OSError:
        return -1
