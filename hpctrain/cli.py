"""``hpctrain COMMAND ...``: choose a command, import only that one, and turn errors into exit codes.

Each command is a module ``hpctrain/commands/<command>.py`` with a docstring (its help), ``add_arguments`` and ``run``.
``cli.py`` makes no heavy imports before it knows the command, so that help appears at once on a login node.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from hpctrain import __version__
from hpctrain.errors import EXIT_BUG, EXIT_INTERRUPTED, HpctrainError, SiteError
from hpctrain.terminal import guarded_terminal

COMMANDS = {
    "init": "copy a shipped profile, site file or job script into the current folder, to start from",
    "new": "write a profile for a file of yours, by a few questions",
    "check": "report all errors in a profile before the job is queued",
    "render": "print the batch script and the files that a submission would write",
    "submit": "check, render and submit a profile; returns at once (also: hpc-submit)",
    "search": "search for the best values of keys of a profile: many runs as one array",
    "pipeline": "from new data to a registered model: stages, each of which is done once for the same inputs",
    "crossval": "cross-validate a profile or a whole search: every object predicted by a model that has not seen it",
    "local": "train at once on this machine, in the foreground (also: python -m hpctrain.local)",
    "rerun": "start a new run with the profile of an old one, and say what differs",
    "lint": "look for traps in batch scripts of Slurm, also those that are not of hpctrain",
    "status": "print the state of a run, and its source",
    "monitor": "show a live view of a run (progress, power, temperature) or the sensors of this machine",
    "logs": "print or follow the logs of a run",
    "cancel": "cancel a run; it saves its state first",
    "list": "list the runs on disk, newest first, by name, state, metric or key of the profile",
    "cost": "print what runs have cost: hours, energy, CO2, money, losses to faults, idle GPUs",
    "index": "keep an index of runs, studies, pipelines and the registry in SQL, for such questions",
    "sql": "ask the index a question in SQL; it can change nothing",
    "ingest": "read survey files into one HDF5 file on a common wavelength grid",
    "simulate": "write realistic quasar and galaxy spectra",
    "data": "inspect files of spectra, write a faster layout, verify their checksums",
    "encode": "write latent vectors, reconstruction error and anomaly score of every spectrum",
    "features": "write features or latents as the offline source of a feature store (Feast)",
    "anomalies": "list the most unusual spectra of a catalogue or a run, as a table or a page",
    "predict": "write what a trained model of any family predicts for every sample",
    "redshift": "find redshifts and classes of spectra with PCA templates, or make such templates",
    "infer": "run an exported bundle over FITS or HDF5 files, on a device without torch",
    "export": "write a smaller, faster network for a device, and test that it is as good",
    "plot": "draw metrics of a run, or one object of a file, in the terminal or as a picture",
    "report": "write the HTML report of a run",
    "trace": "say what the time of a step went to, from steps that the profiler recorded",
    "advise": "say what may be wrong with a run, and which keys of the profile to change",
    "autopsy": "look into a step that diverged or spiked: which objects, pixels and layers did it",
    "lr-find": "sweep the learning rate on the real data and network, and suggest one",
    "audit": "look for leaks between training, validation and test, before a long training",
    "validate": "judge the held-out predictions of a run: every metric with its interval",
    "diff": "show what differs between two runs: profiles, data, code, machines, curves",
    "compare": "compare runs on the same held-out objects: differences, intervals, tests, a page",
    "access": "change who may read and write a run, study, pipeline or registry: private, group or public",
    "pull": "bring a run back from its mirror, with its newest whole checkpoint",
    "challenge": "compare a candidate with the version in service, and promote it if it is better",
    "delete": "delete a run, unless it is active or a registered version was made from it",
    "clean": "free disk space: show what nobody needs any more, ask, remove it",
    "audit-trail": "show or verify who submitted, cancelled, promoted, signed or deleted what",
    "registry": "keep finished models as numbered versions, with aliases such as champion",
    "scan-secrets": "look for passwords, tokens and keys in runs, pipelines, the registry or any folder",
    "signature": "make keys, sign a model, a bundle or a file, and verify it",
    "track": "send runs to MLflow or Weights & Biases, each record once; also from a login node",
    "image": "write what builds a container image with hpctrain: a Dockerfile, an Apptainer definition",
    "modulefile": "write a module file for a shared installation: module load hpctrain",
    "docs": "read the documentation in the terminal, without a network",
    "schema": "write the JSON Schema of profiles, for editors",
    "platforms": "list the GPUs and boards that profiles can name",
    "completion": "print the completion for bash, zsh or fish",
    "verify-resume": "prove that runs of a profile survive kills without changing one bit",
    "lab": "run a private Slurm of pretend nodes on this machine",
    "demo": "run end to end on simulated spectra: submit, interrupt, resume, report",
}
"""Command to one line of help, in the order of use."""

OTHER_WORDS = {
    "train": "to train on a cluster: hpc-submit PROFILE; on this machine: hpctrain local PROFILE",
    "run": "to train on a cluster: hpc-submit PROFILE; on this machine: hpctrain local PROFILE",
    "fit": "to train on a cluster: hpc-submit PROFILE; on this machine: hpctrain local PROFILE",
    "repeat": "hpctrain rerun RUN, with --set to change values",
    "clone": "hpctrain rerun RUN, with --set to change values",
    "resume": "to resume a run: hpc-submit --resume RUN; on this machine: hpctrain local --resume RUN",
    "continue": "to resume a run: hpc-submit --resume RUN; on this machine: hpctrain local --resume RUN",
    "sbatch": "to submit a profile: hpc-submit PROFILE; by hand: sbatch slurm/train_hpc.sh PROFILE",
    "mlflow": "hpctrain track RUN --to mlflow",
    "wandb": "hpctrain track RUN --to wandb",
    "sync": "hpctrain track RUN --to mlflow, or --to wandb",
    "draw": "hpctrain plot RUN loss, or hpctrain plot FILE.h5 --id ID",
    "show": "hpctrain plot FILE.h5 --id ID draws an object; hpctrain data doctor reports on files",
    "curves": "hpctrain plot RUN loss lr; hpctrain report RUN draws everything as a page",
    "debug": "hpctrain advise RUN",
    "why": "hpctrain advise RUN",
    "tensorboard": "tensorboard --logdir runs shows the curves of all runs",
    "sign": "hpctrain signature sign PATH --key FILE, or hpctrain registry sign NAME:N --key FILE",
    "stop": "hpctrain cancel RUN",
    "prune": "hpctrain clean",
    "gc": "hpctrain clean",
    "rm": "hpctrain delete RUN; to free space: hpctrain clean",
    "kill": "hpctrain cancel RUN",
    "scancel": "hpctrain cancel RUN",
    "ls": "hpctrain list",
    "runs": "hpctrain list",
    "queue": "hpctrain list, or hpctrain status RUN",
    "log": "hpctrain logs RUN",
    "tail": "hpctrain logs RUN -f",
    "doctor": "hpctrain data doctor FILES",
    "docker": "hpctrain image writes a Dockerfile",
    "dockerfile": "hpctrain image writes a Dockerfile",
    "apptainer": "hpctrain image --apptainer writes a definition file",
    "module": "hpctrain modulefile writes a module file",
    "man": "hpctrain docs PAGE",
    "create": "hpctrain new FILE writes a profile for a file of yours; hpctrain init copies a shipped one",
    "install": "hpctrain docs install; for a whole cluster: hpctrain modulefile",
}
"""Words that people type instead of a command, and the command that they need."""


def command_parser(name: str, prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of one command; import only the module of this command."""
    module = importlib.import_module(f"hpctrain.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=prog or f"hpctrain {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: hpctrain COMMAND [ARGUMENTS]",
        "",
        "Train models of astronomical spectra on a Slurm cluster, from one YAML profile.",
        "",
        *(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()),
        "",
        "hpctrain COMMAND --help shows the options. Exit codes: 0 done, 1 our bug, 2 profile or command line,",
        "3 cluster or site, 4 data, 5 checkpoint, 6 diverged, 7 a gate failed, 75 saved and to be",
        "requeued, 76 ranks lost, 77 unfit nodes, 78 saved because the machine was too hot, 130 Ctrl-C.",
    ]
    return "\n".join(lines)


def run_command(name: str, arguments: Sequence[str], prog: str | None = None) -> int:
    """Run one command and return its exit code; a user's mistake never shows a traceback."""
    os.umask(umask := os.umask(0o077))
    try:
        options = command_parser(name, prog).parse_args(arguments)
        with guarded_terminal():
            code: int = options.run(options)
        sys.stdout.flush()
        return code
    except HpctrainError as error:
        from hpctrain.credentials.hide import error_line

        print(error_line(error), file=sys.stderr)
        if error.exit_code == EXIT_BUG:
            raise
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "hpctrain").partition(".")[0] == "hpctrain":
            raise
        print(missing_package(error.name or ""), file=sys.stderr)
        return SiteError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has ended and needs no message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        os.umask(umask)  # a command takes that of the run it works in (hpctrain/access.py); the caller may go on


def _print_bug(*error: Any) -> None:
    """Print an exception that nobody expected, with its traceback: it may end up in the log of a job."""
    from hpctrain.credentials.hide import print_error

    print_error(*error)


def missing_package(name: str) -> str:
    """Return a message about a missing package that a command needs, and how to install it."""
    import shlex

    extra = _extra_with(name)
    install = [sys.executable, "-m", "pip", "install", _install_from() + (f"[{extra}]" if extra else "")]
    lines = [
        f"hpctrain: the Python package '{name}' is not installed for {sys.executable}",
        f"  install {f'the extra {extra}' if extra else 'hpctrain with its packages'}: {shlex.join(install)}",
    ]
    if not extra:
        other = (
            "call the hpctrain command of the environment in which you have installed it, such as .venv/bin/hpctrain"
        )
        lines.append(f"  or {other}")
    return "\n".join(lines)


def _install_from() -> str:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return root if os.path.exists(os.path.join(root, "setup.cfg")) else "hpctrain"


def _extra_with(package: str) -> str:
    """Return the smallest extra of the installed hpctrain that brings a package; empty if none does."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("hpctrain") or []
    except PackageNotFoundError:  # it runs from a checkout that nobody has installed
        return ""
    found: dict[str, set[str]] = {}
    for line in lines:
        if extra := re.search(r"extra == ['\"]([\w-]+)", line):
            wanted = re.split(r"[^\w.-]", line, maxsplit=1)[0]
            found.setdefault(extra[1], set()).add(re.sub(r"[-_.]+", "_", wanted).lower())
    having = [extra for extra in sorted(found, key=lambda extra: len(found[extra])) if package.lower() in found[extra]]
    return having[0] if having else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hpctrain`` and return its exit code."""
    if arguments is None:
        arguments = sys.argv[1:]
        sys.excepthook = _print_bug
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"hpctrain {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        import difflib

        if name.endswith((".yaml", ".yml")):
            hint = f"to train it on a cluster: hpc-submit {name}; on this machine: hpctrain local {name}"
        elif name in OTHER_WORDS:
            hint = OTHER_WORDS[name]
        else:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"hpctrain: no command '{name}'; {hint}", file=sys.stderr)
        return 2
    return run_command(name, arguments[1:])


def submit_main() -> int:
    """Run ``hpc-submit``, which is the same as ``hpctrain submit``, and return its exit code."""
    sys.excepthook = _print_bug
    return run_command("submit", sys.argv[1:], prog="hpc-submit")


if __name__ == "__main__":
    sys.exit(main())
