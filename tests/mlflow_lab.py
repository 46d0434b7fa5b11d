"""A real MLflow server on a real PostgreSQL.

The server is that of mlflow-skinny with the packages that it imports, because the whole of mlflow does not install
beside ``constraints.txt`` (it needs an older pyarrow). The tables of its data base are kept below ``.cache/`` of the
checkout, or below ``$HPCTRAIN_TEST_CACHE``, because making them takes seconds. Without PostgreSQL's programs the server
uses SQLite.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until

from hpctrain.launch.ranks import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("mlflow", "alembic", "flask", "flask_cors", "graphene", "pandas", "psycopg", "sqlalchemy")
"""What the server imports."""


def cache_folder() -> Path:
    """Return the folder of what later sessions use again: the files of a data base."""
    given = os.environ.get("HPCTRAIN_TEST_CACHE")
    path = (Path(given) if given else REPOSITORY / ".cache") / f"mlflow-{version('mlflow-skinny')}"
    path.mkdir(parents=True, exist_ok=True)
    return path


class Watcher:
    """Run a command of the shell if this session of tests ends without :meth:`dismiss`, even if it is killed.

    Parameters
    ----------
    command : str
    """

    def __init__(self, command: str) -> None:
        # The session alone holds the other end of the pipe, so its end is the end of the watcher's input.
        self._process = subprocess.Popen(
            ["sh", "-c", f"read dismissed || {{ {command}; }}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the watcher without its command."""
        self._process.communicate(b"dismissed\n")


class Postgres:
    """A private PostgreSQL on a port of 127.0.0.1, in a folder of its own, with a data base ``mlflow``.

    Parameters
    ----------
    template : Path
        Folder with the files of a data base that :meth:`stop` has kept; a new one is made if there is none.
    """

    def __init__(self, template: Path) -> None:
        self._programs, self._template = postgres_programs(), template
        self.folder = Path(tempfile.mkdtemp(prefix="hpctrain-postgres-", dir="/tmp"))  # short, for the socket's path
        self._user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        self._is_new = not template.is_dir()
        data = self.folder / "data"
        if self._is_new:
            self._own()
            self._run("initdb", "-D", str(data), "-U", "lab", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        else:
            shutil.copytree(template, data)
            data.chmod(0o700)
            self._own()
        self.port = free_port()
        self.start()
        if self._is_new:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "lab", "mlflow")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://lab@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        """Start the server, also after :meth:`kill`; then on the same port."""

        def is_up() -> bool:
            if self._process.poll() is not None:  # backends of the killed server still hold its memory
                self._watcher.dismiss()
                self._begin()
            return self._answers()

        self._begin()
        wait_until(is_up, lambda: (self.folder / "log").read_text()[-2000:])

    def _begin(self) -> None:
        # Without fsync only a power cut loses what was committed, and no kill does.
        settings = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB")
        command = [*self._user, str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        command += ["-k", str(self.folder), "-p", str(self.port), "-h", "127.0.0.1"]
        command += [word for each in settings for word in ("-c", each)]
        with open(self.folder / "log", "a") as log:
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self._watcher = Watcher(f"kill -QUIT {self.pid}; sleep 2; rm -rf {self.folder}")

    def kill(self) -> None:
        """Kill the server as ``kill -9`` does; its backends find out by themselves."""
        self._watcher.dismiss()
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server; keep the files of a new data base for later sessions."""
        self._watcher.dismiss()
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        if self._is_new and not self._template.exists():
            copy = self._template.with_name(f"{self._template.name}.{os.getpid()}")
            shutil.copytree(self.folder / "data", copy)
            copy.rename(self._template)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        ask = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "lab"]
        return subprocess.run(ask, check=False).returncode == 0

    def _own(self) -> None:
        if self._user:
            subprocess.run(["chown", "-R", "nobody", str(self.folder)], check=True)
        self.folder.chmod(0o755)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._user, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, cwd="/", capture_output=True, stdin=subprocess.DEVNULL)


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest if there are several; None if there are none."""
    found = [Path(path).parent for path in [shutil.which("pg_ctl")] if path]
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return next(iter([*sorted(versions, key=lambda path: int(path.parent.name), reverse=True), *found]), None)


class MlflowServer:
    """A running server, and questions to it as its own web page asks them.

    Parameters
    ----------
    folder : Path
        Where the server keeps artifacts and its log.
    """

    def __init__(self, folder: Path) -> None:
        if missing := [package for package in PACKAGES if find_spec(package) is None]:
            pytest.skip(f"no {', '.join(missing)}: pip install 'hpctrain[test]'")
        self.postgres = Postgres(cache_folder() / "postgres") if postgres_programs() else None
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start the server, after :meth:`kill` on the same port."""
        port, folder = self._port, self._folder
        backend = self.postgres.url if self.postgres else f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "artifacts")]
        self.log = folder / "server.log"
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("PYTHONPATH", None)
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=folder
            )
        self._watcher = Watcher(f"kill -KILL -{self._process.pid}")
        wait_until(self._is_up, lambda: self.log.read_text()[-2000:], pause_s=0.1)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=60) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the server and its workers as ``kill -9`` does; its data base stays."""
        self._watcher.dismiss()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the server and its data base."""
        self.kill()
        if self.postgres:
            self.postgres.stop()

    def ask(self, method: str, /, **fields: Any) -> dict[str, Any]:
        """Call the REST interface: with a body if `method` is one that searches, else with a query."""
        if method.endswith("search"):
            data, query = json.dumps(fields).encode(), ""
        else:
            data, query = None, "?" + urllib.parse.urlencode(fields)
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{method}{query}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """Return the tracked runs of an experiment; tags, parameters and metrics as dictionaries."""
        try:
            found = self.ask("experiments/get-by-name", experiment_name=experiment)["experiment"]
        except urllib.error.HTTPError:
            return []
        runs = self.ask("runs/search", experiment_ids=[found["experiment_id"]], max_results=1000).get("runs", [])
        for run in runs:
            for name in ("tags", "params", "metrics"):
                run[name] = {item["key"]: item["value"] for item in run["data"].get(name, [])}
        return runs

    def copy_of(self, experiment: str) -> dict[str, dict[str, Any]]:
        """Return everything that the tracked runs of an experiment hold, by the key of the run.

        Ids that the server gives are replaced by the keys of the runs, so that two copies can be compared.
        """
        runs = self.runs(experiment)
        keys = {run["info"]["run_id"]: run["tags"]["hpctrain.run"] for run in runs}
        assert len(set(keys.values())) == len(runs), "a run is there twice"
        copies = {}
        for run in runs:
            run_id, tags = run["info"]["run_id"], run["tags"]
            if parent := tags.pop("mlflow.parentRunId", None):
                tags["parent"] = keys[parent]
            copies[keys[run_id]] = {
                "name": run["info"]["run_name"],
                "state": run["info"]["status"],
                "tags": tags,
                "params": run["params"],
                "points": {name: self.points(run_id, name) for name in run["metrics"]},
                "data": sorted(map(_data_set, run.get("inputs", {}).get("dataset_inputs", []))),
                "files": self.files(run_id),
            }
        return copies

    def points(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of every point of a curve, in the order of steps."""
        found, token = [], {}
        while True:
            page = self.ask("metrics/get-history", run_id=run_id, metric_key=metric, max_results=20000, **token)
            found += [(int(item.get("step", 0)), item["value"]) for item in page.get("metrics", [])]
            if not page.get("next_page_token"):
                return sorted(found)
            token = {"page_token": page["next_page_token"]}

    def files(self, run_id: str, folder: str = "") -> dict[str, int]:
        """Return path and size of every artifact of a run."""
        found = {}
        for item in self.ask("artifacts/list", run_id=run_id, path=folder).get("files", []):
            if item["is_dir"]:
                found |= self.files(run_id, item["path"])
            else:
                found[item["path"]] = int(item["file_size"])
        return found

    def download(self, run_id: str, path: str) -> bytes:
        """Return the bytes of an artifact."""
        address = f"{self.url}/get-artifact?" + urllib.parse.urlencode({"run_uuid": run_id, "path": path})
        with urllib.request.urlopen(address, timeout=600) as answer:
            return answer.read()


def _data_set(found: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return name, digest, role and path of a data set."""
    (role,) = [tag["value"] for tag in found["tags"]]
    data = found["dataset"]
    return data["name"], data["digest"], role, json.loads(data["source"])["uri"]
