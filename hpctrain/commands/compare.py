"""Compare finished runs on the same held-out objects: how large is the difference, and can it be chance?

hpctrain compare forest boosting                       two runs; the first one is the baseline
hpctrain compare runs/a/ID runs/b/ID --out page.html   also write a page with curves and what differs in the profiles
hpctrain compare a b c --baseline b --metric Z.nmad    several runs against one of them, by one metric
hpctrain compare a b c --all-pairs --by sky            every pair; cells of the sky are drawn as a whole
hpctrain compare runs/a-crossval/ID runs/b-crossval/ID cross-validations, also with the corrected resampled t test

Runs with different splits are refused: an object that a run trained on cannot judge it. --shared compares them on the
objects that all of them held out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hpctrain.commands.argument_types import positive, positive_number
from hpctrain.launch.runs import DEFAULT_RUNS_DIR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain compare``."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path, name, run id, job id, or a cross-validation")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--baseline", metavar="RUN", help="one of the runs: all others against it (default: the first)")
    which.add_argument("--all-pairs", action="store_true", help="every run against every other")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="metrics such as nmad, Z.nmad or completeness.*; the first one decides (default: the usual ones)",
    )
    parser.add_argument(
        "--by", default="object", metavar="GROUP", help="what is independent: object, sky or a column, such as plate"
    )
    parser.add_argument("--shared", action="store_true", help="compare different splits on the shared held-out objects")
    parser.add_argument("--draws", type=positive, default=2000, help="bootstrap draws (default: 2000)")
    parser.add_argument(
        "--confidence", type=_confidence, default=0.95, metavar="SHARE", help="of the intervals (default: 0.95)"
    )
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="write a page")
    parser.add_argument("--json", action="store_true", help="print the JSON, for programs")


def _confidence(text: str) -> float:
    number = positive_number(text)
    if not 0.5 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share above 0.5 and below 1")
    return number


def run(args: argparse.Namespace) -> int:
    """Compare the runs, print the comparison and write the page."""
    from hpctrain.commands.compare_entrants import read_request
    from hpctrain.validation.comparison.compare import compare

    entrants, asked = read_request(args)
    found = compare(entrants, asked)
    if args.out is not None:
        from hpctrain.validation.comparison.page import write_page

        path = write_page(found, entrants, args.out)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    from hpctrain.validation.comparison.table import lines_of

    print("\n".join([*lines_of(found), *([] if args.out is None else ["", str(path)])]))
    return 0
