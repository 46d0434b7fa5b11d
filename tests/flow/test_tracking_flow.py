"""Runs that MLflow and W&B follow: one tracked run over all attempts, each record once, and no harm to the run."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import uuid
from pathlib import Path

import pytest
from attempts import Attempts, log_of
from mlflow_lab import cache_folder, postgres_programs
from processes import wait_until
from registered_runs import GATE, added
from wandb_files import rows_of

from hpctrain.cli import run_command
from hpctrain.metrics.events import Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.registry.actions import promote
from hpctrain.registry.folder import Registry
from hpctrain.registry.mlflow import sync
from hpctrain.rundir import RunDir, read_json

EXIT_SITE = 3


@pytest.fixture(scope="module")
def attempts(spectra_file, fork_server, tmp_path_factory):
    made = Attempts(tmp_path_factory.mktemp("tracked"), spectra_file, fork_server)
    yield made
    made.close()


def track(run, *options, **environment):
    command = [sys.executable, "-m", "hpctrain", "track", str(run.path), *options]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, cwd=run.path
    )


def sha256(run):
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


def steps_of(run, kind):
    return [record["step"] for record in run.read_metrics(kind)]


def test_a_run_that_is_killed_and_resumed_is_one_run_in_mlflow_with_each_step_once(attempts, mlflow):
    experiment = f"killed-{uuid.uuid4()}"
    section = {"tracking_uri": mlflow.url, "experiment": experiment}
    run = attempts.new_run(track={"mlflow": section, "figure_every_steps": 5, "num_figures": 2})
    assert attempts.cut(run, signal.SIGKILL, 11) == [-9]
    half = track(run, "--to", "mlflow")
    assert half.returncode == 0, half.stderr
    (tracked,) = mlflow.runs(experiment)
    run_id = tracked["info"]["run_id"]
    assert [step for step, _ in mlflow.points(run_id, "train/loss")] == list(range(1, 11))
    assert tracked["info"]["status"] == "RUNNING"

    assert attempts.attempt(run) == [0], log_of(run)
    for _ in range(2):
        done = track(run, "--to", "mlflow")
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{run.path}: 0 new records sent to mlflow\n"
    (tracked,) = mlflow.runs(experiment)
    assert tracked["info"]["run_id"] == run_id == read_json(run.track / "mlflow.json")[mlflow.url]
    assert tracked["info"]["status"] == "FINISHED"
    for kind in ("train", "eval"):
        points = mlflow.points(run_id, f"{kind}/loss")
        assert points == [(record["step"], record["loss"]) for record in run.read_metrics(kind)]
    assert tracked["params"]["train.learning_rate"] == "0.001"
    assert tracked["params"]["model.encoder_hidden"] == "[16]"
    assert tracked["tags"]["hpctrain.run"] == f"{run.name}/{run.run_id}"
    figures = {str(path.relative_to(run.path)) for path in run.figures.rglob("*.png")}  # the kill may cost one
    assert {f"figures/reconstruction/{row}/step-{step:08d}.png" for row in (0, 1) for step in (15, 20, 22)} <= figures
    files = mlflow.files(run_id)
    assert files.keys() == figures | {"model/model.safetensors", "model/model.json", "report.html", "profile.yaml"}
    assert mlflow.download(run_id, "model/model.safetensors") == (run.model / "model.safetensors").read_bytes()
    assert sha256(run) == sha256(attempts.straight())


def test_a_replay_that_is_killed_again_and_again_sends_each_record_once(mlflow, attempts):
    run = attempts.new_run()
    writer = MetricsWriter(run, 1)
    writer.event(Started.from_record({}), 0)
    for step in range(1, 2001):
        writer.train(step, **{f"number_{index}": float(step) for index in range(9)})
    writer.evaluation(2000, loss=0.5)
    writer.close()
    experiment = f"replayed-{uuid.uuid4()}"
    options = ("--to", "mlflow", "--tracking-uri", mlflow.url, "--experiment", experiment)
    command = [sys.executable, "-m", "hpctrain", "track", str(run.path), *options]
    arrived = 0
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:

            def has_sent_more(before=arrived, process=process):
                found = mlflow.runs(experiment)
                return process.poll() is not None or (
                    found and float(found[0]["metrics"].get("train/number_0", 0)) > before
                )

            wait_until(has_sent_more)
            process.kill()
        arrived = float(mlflow.runs(experiment)[0]["metrics"]["train/number_0"])
    done = track(run, *options)
    assert done.returncode == 0, done.stderr
    (tracked,) = mlflow.runs(experiment)
    for index in (0, 8):
        points = mlflow.points(tracked["info"]["run_id"], f"train/number_{index}")
        assert points == [(step, float(step)) for step in range(1, 2001)]
    assert mlflow.points(tracked["info"]["run_id"], "eval/loss") == [(2000, 0.5)]

    (run.track / "mlflow.json").unlink()  # the server knows the run by its tag
    assert track(run, *options).stdout == f"{run.path}: 0 new records sent to mlflow\n"
    assert len(mlflow.runs(experiment)) == 1


def test_trackers_that_are_down_silent_or_without_a_key_cost_a_run_nothing_but_a_line(attempts):
    pytest.importorskip("mlflow", reason="pip install 'hpctrain[mlflow]'", exc_type=ImportError)
    pytest.importorskip("wandb", reason="pip install 'hpctrain[wandb]'", exc_type=ImportError)
    straight = sha256(attempts.straight())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody ever answers
        port = silent.getsockname()[1]
        run = attempts.new_run(track={"mlflow": {"tracking_uri": f"http://127.0.0.1:{port}"}, "wandb": {}})
        assert attempts.attempt(run) == [0], log_of(run)
        refused = track(run, "--to", "wandb", HOME=str(run.path))
    assert sha256(run) == straight
    assert refused.returncode == EXIT_SITE
    assert "No API key configured" in refused.stderr
    down = track(run, "--to", "mlflow")
    assert down.returncode == EXIT_SITE
    assert down.stderr.startswith(f"mlflow: http://127.0.0.1:{port}: ")
    assert len(down.stderr.splitlines()) == 1
    log = log_of(run)
    assert log.count("No API key configured") == 1
    for tracker in ("mlflow", "wandb"):
        assert log.count(f"send them with: hpctrain track {run.path} --to {tracker}") == 1, log
    assert "exporter_failed" not in {record["event"] for record in run.read_metrics("event")}


def test_a_run_that_is_cut_and_resumed_is_one_offline_run_in_wandb_with_each_step_once(attempts):
    pytest.importorskip("wandb", reason="pip install 'hpctrain[wandb]'", exc_type=ImportError)
    run = attempts.new_run(
        track={"wandb": {"mode": "offline", "project": "p"}, "figure_every_steps": 10, "num_figures": 1}
    )
    assert attempts.cut(run, signal.SIGKILL, 11) == [-9]
    half = track(run, "--to", "wandb")
    assert half.returncode == 0, half.stderr
    assert attempts.attempt(run) == [0], log_of(run)
    done = track(run, "--to", "wandb")
    assert done.returncode == 0, done.stderr
    rows = rows_of(run.path)
    for kind in ("train", "eval"):
        points = [(int(row["step"]), float(row[f"{kind}/loss"])) for row in rows if f"{kind}/loss" in row]
        assert points == [(record["step"], record["loss"]) for record in run.read_metrics(kind)]
    numbers = [int(row["_step"]) for row in rows]
    assert numbers == sorted(set(numbers))
    drawn = sorted(int(path.stem.removeprefix("step-")) for path in run.figures.rglob("*.png"))
    assert [int(row["step"]) for row in rows if any(name.startswith("figures/") for name in row)] == drawn
    assert drawn[-2:] == [20, 22]
    folders = {path.name.rpartition("-")[0] for path in run.path.glob("wandb/offline-run-*")}
    assert len(folders) >= 2  # one of each sender; that of the first attempt may have been killed before it began
    assert done.stdout == f"{run.path}: 0 new records sent to wandb\n"
    assert len({path.name for path in run.path.glob("wandb/offline-run-*/*.wandb")}) == 1


def test_a_login_in_the_address_of_a_server_is_refused_on_the_command_line(tmp_path):
    run = RunDir.create(tmp_path, "a_run")
    run.profile.write_text("name: a_run\ndata: {files: [a.h5], simulate: {}}\n")
    done = track(run, "--to", "mlflow", "--tracking-uri", "https://ann:secret@mlflow.example.org")
    assert done.returncode == 2
    assert "--tracking-uri: holds a user or password" in done.stderr
    assert "secret" not in done.stderr


def test_nothing_heavy_is_imported_on_a_login_node(tmp_path):
    run = RunDir.create(tmp_path, "a_run")
    run.profile.write_text("name: a_run\ndata: {files: [a.h5], simulate: {}}\n")
    code = (
        "import sys\nfrom hpctrain.cli import main\n"
        f"code = main(['track', {str(run.path)!r}, '--to', 'mlflow'])\n"
        "print('CODE', code, *sorted({'torch', 'h5py', 'matplotlib', 'tensorboard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "CODE 3\n", done.stdout + done.stderr
    assert "no server" in done.stderr
    assert not (run.track / "mlflow.json").exists()


@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")
def test_the_data_base_of_a_session_of_tests_that_is_killed_ends_with_it():
    begin = """\
import sys, time
from pathlib import Path
from mlflow_lab import Postgres
data_base = Postgres(Path(sys.argv[1]))
print(data_base.pid, data_base.folder, flush=True)
time.sleep(600)
"""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", begin, str(cache_folder() / "postgres")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as session:
        pid, folder = session.stdout.readline().split()
        assert Path(folder, "data").is_dir()
        session.kill()
    wait_until(lambda: not Path(folder).exists(), "the end of the folder of the data base")
    assert not Path("/proc", pid, "exe").exists()  # a zombie has no program any more


@pytest.mark.slow
def test_registered_versions_and_aliases_are_in_mlflow_once_and_a_silent_server_stops_nothing(mlflow, tmp_path, capsys):
    registry, runs = Registry(tmp_path / "registry"), tmp_path / "runs"
    registry.path.mkdir()
    prefix = f"{uuid.uuid4().hex}-"

    def use(url):
        registry.policy.write_text(f"mlflow: {{tracking_uri: '{url}', prefix: '{prefix}'}}\n")

    use("http://127.0.0.1:9")  # nothing listens there
    where = ["--registry", str(registry.path)]
    for weight in (1.0, 2.0):
        added(registry, runs, weight, [GATE])
    words = ["promote", "photoz:2", "--to", "champion", "--why", "better", *where]
    assert run_command("registry", words) == 0
    assert "MLflow was not updated" in capsys.readouterr().err
    use(mlflow.url)
    done = sync(registry)
    assert done.made == [f"{prefix}photoz:1", f"{prefix}photoz:2"]
    assert done.moved == [f"{prefix}photoz@champion"]
    version = promote("photoz:1", "champion", "worse", registry).version
    assert sync(registry).moved == [f"{prefix}photoz@champion"]
    assert vars(sync(registry)) == {"made": [], "moved": []}
    meant = mlflow.ask("registered-models/alias", name=f"{prefix}photoz", alias="champion")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in meant["tags"]}
    assert tags["hpctrain.token"] == version.facts["token"]
    assert tags["hpctrain.version"] == "1"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        mlflow.ask("model-versions/get", name=f"{prefix}photoz", version="3")
