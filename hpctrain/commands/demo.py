"""End to end on simulated spectra: simulate, check, submit, be interrupted, resume, report.

Every step is a command that you could type yourself; the demo prints it before it runs. The run goes to Slurm if a
controller answers, else it starts on this machine. `slurm/lab run -- make demo` starts a Slurm of pretend nodes for it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from hpctrain.errors import EXIT_FINISHED, HpctrainError
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.launch.plan import checkout_root
from hpctrain.launch.runs import newest_job, newest_runs
from hpctrain.launch.status import RunStatus, describe
from hpctrain.launch.targets import TARGETS, find_target
from hpctrain.metrics.events import Resumed, Started, read_event
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.profile.judge import plural
from hpctrain.profile.load import load_profile
from hpctrain.profile.targets import AUTO
from hpctrain.rundir import RunDir
from hpctrain.shipped import shipped

INTERRUPT_AT = 0.4
"""Share of the run after which the demo interrupts it."""
DESI_PIXELS = 7781
NUM_HIGHEST = 20
_POLL_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain demo``."""
    parser.add_argument("--directory", default="demo", help="folder for spectra and runs (default: ./%(default)s)")
    parser.add_argument("--profile", help="profile to use instead of profiles/quickstart.yaml")
    parser.add_argument("--cluster", choices=(AUTO, *TARGETS), default=AUTO, help="where to run")


def run(arguments: argparse.Namespace) -> int:
    """Run all steps of the demo and return the run's exit code."""
    began = time.monotonic()
    directory = Path(arguments.directory)
    cluster = _choose_cluster(arguments.cluster)
    _heading("1  This machine")
    print(_describe_machine(cluster))
    profile = arguments.profile or _find_profile(directory)
    spectra = _make_spectra(profile, directory)
    run_dir = _submit(profile, spectra, directory / "runs", cluster)
    status = _watch_and_interrupt(run_dir, cluster)
    catalogue = directory / "latents.h5"
    if not _report_and_encode(run_dir, status, spectra, catalogue):
        return status.exit_code or 1
    _heading("6  Results")
    print(_describe_result(run_dir, catalogue))
    print(f"\nThe demo took {time.monotonic() - began:.0f} s.")
    scripts = os.path.dirname(sys.executable)
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        print(f"hpctrain, hpc-submit and tensorboard are in {os.path.relpath(scripts)}; put it on your PATH.")
    return EXIT_FINISHED


def _make_spectra(profile: str, directory: Path) -> Path:
    _heading("2  Spectra: quasars and galaxies as DESI sees them, with sky lines and realistic noise")
    simulation = load_profile(profile).data.simulate or SimulateSection()
    num_pixels = simulation.num_pixels or DESI_PIXELS
    spectra = directory / f"spectra-{simulation.num_spectra}x{num_pixels}.h5"
    directory.mkdir(parents=True, exist_ok=True)
    if spectra.exists():
        print(f"{spectra} exists already")
    else:
        size = ["--num-spectra", str(simulation.num_spectra), "--num-pixels", str(num_pixels)]
        _call("hpctrain", "simulate", *size, "--out", str(spectra))
    return spectra


def _submit(profile: str, spectra: Path, runs_dir: Path, cluster: str) -> RunDir:
    _heading("3  Check the profile, and submit it")
    our_spectra = ["--set", f"data.files=[{spectra}]"]
    _call("hpctrain", "check", profile, *our_spectra)
    _call("hpc-submit", profile, *our_spectra, "--runs-dir", str(runs_dir), "--cluster", cluster)
    return next(newest_runs(runs_dir))


def _watch_and_interrupt(run_dir: RunDir, cluster: str) -> RunStatus:
    _heading(f"4  Watch it; at {INTERRUPT_AT:.0%} the demo interrupts it as a queue would; it saves and resumes")
    interruption = threading.Thread(target=_interrupt, args=(run_dir, cluster), daemon=True)
    interruption.start()
    _call("hpctrain", "logs", "-f", os.path.relpath(run_dir.path))
    return _wait_for_end(run_dir)


def _report_and_encode(run_dir: RunDir, status: RunStatus, spectra: Path, catalogue: Path) -> bool:
    """Show the end of the run; return whether it has finished, so that there are results."""
    _heading("5  Status, report and latent vectors")
    shown = os.path.relpath(run_dir.path)
    _call("hpctrain", "status", shown)
    if status.state != "finished":
        print(
            f"\nThe run is {status.state}, not finished. These commands show the reason:\n"
            f"  hpctrain logs {shown}\n  hpctrain logs --batch {shown}"
        )
        return False
    _call("hpctrain", "report", shown)
    catalogue.unlink(missing_ok=True)
    _call("hpctrain", "encode", shown, str(spectra), "--out", str(catalogue))
    return True


def _find_profile(directory: Path) -> str:
    """Return the path of the profile as a user would type it: that of the checkout, or a copy of what is installed."""
    if checkout_root():
        return os.path.relpath(shipped("profiles/quickstart.yaml"))
    copy = directory / "quickstart.yaml"
    if not copy.exists():
        _call("hpctrain", "init", "quickstart", "--out", str(directory))
    return str(copy)


def _choose_cluster(wanted: str) -> str:
    """Return the first target that would take jobs now: that its commands are here does not mean that it answers."""
    return next(name for name in TARGETS if find_target(name).answers()) if wanted == AUTO else wanted


def _describe_machine(cluster: str) -> str:
    from importlib.metadata import version

    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = "an NVIDIA GPU" if shutil.which("nvidia-smi") else "no NVIDIA GPU"
    target = find_target(cluster)
    answers = f"{target.name.capitalize()} answers: the run goes there"
    where = "no Slurm answers: the run starts right here" if target.is_this_machine else answers
    return (
        f"Python {platform.python_version()}, torch {version('torch')}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory_gib:.0f} GiB of memory, {gpus}\n{where}"
    )


def _heading(text: str) -> None:
    line = f"── {text} "
    print(f"\n{line}{'─' * max(4, 100 - len(line))}", flush=True)


def _call(*command: str) -> None:
    """Print a command of hpctrain as a user would type it, and run it.

    Raises
    ------
    HpctrainError
        The command failed; it has printed the reason itself.
    """
    print(f"$ {shlex.join(command)}", flush=True)
    if command[0] == "hpc-submit":
        words = [sys.executable, "-m", "hpctrain", "submit", *command[1:]]
    else:
        words = [sys.executable, "-m", *command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL)
    if done.returncode:
        error = HpctrainError(f"`{shlex.join(command)}` ended with exit code {done.returncode}")
        error.exit_code = done.returncode if done.returncode > 1 else 3
        raise error


def _interrupt(run_dir: RunDir, cluster: str) -> None:
    """Wait until the run has made enough steps, then send the warning that a queue sends before it ends a job."""
    while True:
        time.sleep(_POLL_S)
        steps = [(record["step"], record) for record in run_dir.read_metrics("train")]
        events = map(read_event, run_dir.read_metrics("event"))
        started = next((event for event in events if isinstance(event, Started)), None)
        if steps and started and steps[-1][0] >= INTERRUPT_AT * started.total_steps:
            break
    command = find_target(cluster).warn(newest_job(run_dir))
    print(f"$ {command}     # the queue's warning: save and exit", flush=True)


def _wait_for_end(run_dir: RunDir) -> RunStatus:
    status = describe(run_dir)
    while status.is_active:
        time.sleep(_POLL_S)
        status = describe(run_dir)
    return status


def _describe_result(run_dir: RunDir, catalogue: Path) -> str:
    """Return the result in a few lines: losses, attempts, and paths of the files."""
    history = read_history(run_dir)
    first, best = history.evaluations[0], history.best_evaluation(Objective())
    attempts = len(run_dir.read_attempts())
    resumed = history.newest(Resumed)
    lost = (resumed.steps_lost or 0) if resumed else 0
    trained = [record["samples_per_s"] for record in history.train if record.get("samples_per_s")]
    rows = [
        ("validation loss", f"{first['loss']:.4g} at step {first['step']}, {best['loss']:.4g} at step {best['step']}"),
        ("mean χ²", f"{first['chi2']:.3g} to {best['chi2']:.3g} per pixel of the held-out spectra (1 is the noise)"),
        ("median χ²", _describe_median(run_dir, best["chi2"])),
        ("speed", f"{sorted(trained)[len(trained) // 2]:,.0f} spectra a second"),
        ("interrupted", f"{plural(attempts - 1, 'time')}, {plural(lost, 'step')} lost, {plural(attempts, 'attempt')}"),
        ("odd spectra", _describe_oddities(catalogue)),
        ("model", os.path.relpath(run_dir.model)),
        ("catalogue", f"{os.path.relpath(catalogue)}  (latent vectors, χ² and anomaly score of every spectrum)"),
        ("report", f"{os.path.relpath(run_dir.report)}  (one file, opens in any browser)"),
        ("TensorBoard", f"tensorboard --logdir {os.path.relpath(run_dir.tensorboard)}"),
    ]
    return "\n".join(f"{name:<16}{text}" for name, text in rows)


def _describe_median(run_dir: RunDir, mean: float) -> str:
    """Return the median χ² of the held-out spectra and, if the mean is much higher, the reason."""
    import h5py
    import numpy as np

    with h5py.File(run_dir.results / "latents.h5") as file:
        median = float(np.nanmedian(file["RECON_MSE"][:]))
    why = "; a few spectra with a large χ² raise the mean" if mean > 1.2 * median else ""
    return f"{median:.3g} in the end{why}"


def _describe_oddities(catalogue: Path) -> str:
    """Report how many of the spectra that were simulated as unusual are among those with the highest anomaly score."""
    import h5py
    import numpy as np

    with h5py.File(catalogue) as file:
        score, is_unusual = np.nan_to_num(file["ANOMALY_SCORE"][:]), file["is_unusual"][:].astype(bool)
    highest = np.argsort(-score)[:NUM_HIGHEST]
    return (
        f"{is_unusual[highest].sum()} of the {is_unusual.sum()} unusual ones among {len(score):,} are among the "
        f"{NUM_HIGHEST} with the highest anomaly score"
    )
