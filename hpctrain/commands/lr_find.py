"""Sweep the learning rate on the real data and network, and suggest one (learning rate range test, Smith 2017).

hpctrain lr-find PROFILE                      300 steps from 1e-7 to 1
hpctrain lr-find PROFILE --from 1e-5 --to 0.1 --steps 200

It trains in one process on this machine with the global batch of the profile, from the weights with which a run would
begin, while the learning rate rises exponentially. No run is made. The same seed gives the same sweep on the same
machine. A page and the numbers are written to --out: lr-find.html and lr-find.json; with --png also lr-find.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.errors import Problem, ProfileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain lr-find``."""
    parser.add_argument("profile", nargs="?", metavar="PROFILE", help="YAML profile, also that of a run directory")
    add_set_argument(parser)
    parser.add_argument("--from", dest="low", type=float, default=1e-7, metavar="LR", help="first rate (1e-7)")
    parser.add_argument("--to", dest="high", type=float, default=1.0, metavar="LR", help="last rate (1)")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="number of steps (300)")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), help="where to compute (default: train.device)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: lr-find-NAME)")
    parser.add_argument("--png", action="store_true", help="also draw the curve as a PNG file, for slides")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Sweep, write page and picture, and print the curve and the suggestion."""
    overrides = overrides_of(args)
    _check(args)
    from hpctrain.commands.using_model import progress_bar
    from hpctrain.profile.load import load_profile
    from hpctrain.rehearsal.sweep import sweep
    from hpctrain.rehearsal.sweep_page import page, text, to_json, write_picture
    from hpctrain.report.document import write_document

    profile = load_profile(args.profile, overrides)
    with progress_bar("sweeping the learning rate", args.steps) as tick:
        found = sweep(profile, args.profile, args.low, args.high, args.steps, args.device, tick)
    current, folder = profile.train.learning_rate, args.out or Path(f"lr-find-{profile.name}")
    values = to_json(found, current)
    written = write_document(folder / "lr-find.html", page(found, profile.name, args.profile, current))
    write_document(folder / "lr-find.json", json.dumps(values, indent=1) + "\n")
    if args.png:
        write_picture(found, folder / "lr-find.png", profile.name)
    print(json.dumps(values, indent=1) if args.json else "\n".join([*text(found, current), str(written)]))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse ranges that cannot be swept.

    Raises
    ------
    ProfileError
        The message names all problems.
    """
    problems = []
    if args.profile is None:
        problems.append(Problem("PROFILE", "which profile? (hpctrain lr-find profiles/desi-vae.yaml)"))
    if not 0 < args.low < args.high < float("inf"):
        problems.append(Problem("--from, --to", f"{args.low:g} to {args.high:g} is no range of rates above 0"))
    if not 20 <= args.steps <= 100_000:
        problems.append(Problem("--steps", f"{args.steps} is not between 20 and 100000"))
    if problems:
        raise ProfileError("command line", problems)
