"""What ``hpctrain encode`` and ``hpctrain predict`` share: options, the checks of ``--out`` and ``--device``, a bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpctrain.commands.argument_types import positive
from hpctrain.commands.signing_arguments import add_public_key_argument
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR
from hpctrain.terminal import console


def add_model_arguments(parser: argparse.ArgumentParser, file: str, files: str, out: str, many: str) -> None:
    """Declare the arguments of a command that computes something for each sample with a trained model.

    Parameters
    ----------
    parser : ArgumentParser
    file, files : str
        What stands for an input file, and what the input files are, in the help.
    out : str
        What stands for the file to write.
    many : str
        What the command calls its samples.
    """
    parser.add_argument(
        "run_dir", metavar="RUN", help="path, name, run id or job id of a run, a model folder, or registry:NAME@ALIAS"
    )
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("files", nargs="+", metavar=file, help=files)
    parser.add_argument("--out", type=Path, required=True, metavar=out, help="file to write")
    parser.add_argument("--overwrite", action="store_true", help=f"replace {out} if it exists")
    parser.add_argument(
        "--checkpoint", metavar="STEP", help="checkpoint (1200 or step-00001200) to use instead of the last model"
    )
    parser.add_argument("--batch-size", type=positive, default=256, metavar="N", help=f"{many} per batch (256)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto: GPU if there is one")
    parser.add_argument("--reader-threads", type=int, default=2, metavar="N", help="threads that read ahead (2)")
    add_public_key_argument(parser)


def model_of(args: argparse.Namespace) -> Path:
    """Return the path of the model that the user means; with ``--public-key`` only if one of these keys has signed it.

    Raises
    ------
    ProfileError
        There is no such version or run, or a key cannot be used.
    CheckpointError
        The version is damaged, or the model is not signed by a trusted key.
    """
    from hpctrain.registry.references import model_at
    from hpctrain.signing.keys import anchors_of

    return model_at(args.run_dir, args.runs_dir, anchors_of(args.public_key))


def check_out(source: str, args: argparse.Namespace) -> None:
    """Refuse a file ``--out`` that cannot be written, or that is one of the input files.

    Raises
    ------
    ProfileError
        It is an input, or its folder does not exist.
    DataError
        It exists, and there is no ``--overwrite``.
    """
    from hpctrain.samples.sink import require_free

    if args.out.resolve() in {Path(name).resolve() for name in args.files}:
        raise ProfileError(source, [Problem("--out", f"{args.out} is one of the input files; choose another name")])
    if not args.out.absolute().parent.is_dir():
        raise ProfileError(source, [Problem("--out", f"{args.out.absolute().parent} is no directory; make it first")])
    require_free(args.out, args.overwrite)


def choose_device(source: str, name: str) -> str:
    """Return the torch device that ``auto``, ``cuda`` or ``cpu`` means on this machine.

    Raises
    ------
    ProfileError
        `name` is ``cuda``, and there is no GPU.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ProfileError(source, [Problem("--device", "cuda asked for, but torch sees no GPU; use auto or cpu")])
    return "cuda" if available and name != "cpu" else "cpu"


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Any]:
    """Show a bar on a terminal and nothing elsewhere; yield a function that takes the number of samples done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(sys.stderr)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
