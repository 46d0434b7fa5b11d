"""What lies in the folder in which the commands of a page run; the name of a function is the name of a world."""

from __future__ import annotations

import re
import shutil

import h5py
from families import TINY
from shown import DOCS, REPOSITORY
from world import World

SHARED = {"runs", "latents", "forests", "clone"}
"""Worlds that several pages use; the others are made for each page, because its commands change them."""

VALIDATE = {"draws": 100, "gates": [{"metric": "size.rmse", "below": 1000.0, "min_objects": 2}]}
WEEKLY = """\
name: weekly
launch: {cluster: local, gpus_per_node: 0}
stages:
  - {name: train, profile: forest.yaml}
  - {name: evaluate}
"""
STUDY = """\
name: trees-search
base: forest.yaml
space:
  model.min_leaf: [2, 3, 4]
sampler: {name: random}
trials: 3
parallel: 1
"""


def empty(world: World) -> None:
    """Nothing, as for a new user."""


def clone(world: World) -> None:
    """A clone of the project with its smallest profile, and what a reader of the README has of his own."""
    (world.folder / "profiles").mkdir()
    shutil.copy(REPOSITORY / "profiles/quickstart.yaml", world.folder / "profiles")
    shutil.copy(REPOSITORY / "profiles/quickstart.yaml", world.folder / "mine.yaml")
    (world.folder / "my_network").mkdir()
    (world.folder / "my_network/pyproject.toml").write_text('[project]\nname = "my-network"\nversion = "1.0"\n')
    page = (DOCS / "lint.md").read_text(encoding="utf-8")
    (world.folder / "train.sbatch").write_text(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0])
    (world.folder / "docs/img").mkdir(parents=True)
    shutil.copy(DOCS / "verify-resume.md", world.folder / "docs")


def runs(world: World) -> None:
    """Two finished runs of quickstart, their spectra, and the profiles of the project."""
    world.profiles()
    world.quickstart()
    world.quickstart(**{"train.seed": 2})
    shutil.copy(world.folder / "quickstart.h5", world.folder / "archive.h5")
    (world.folder / "docs/img").mkdir(parents=True)


def latents(world: World) -> None:
    """A run of quickstart and the latent vectors of its spectra."""
    world.profiles()
    world.quickstart()
    world.encode("quickstart", "latents.h5")
    world.encode("quickstart", "new-latents.h5")


def forests(world: World) -> None:
    """Runs of trees on one small catalogue, and that catalogue as text."""
    world.profiles()
    for name, seed in (("forest", 1), ("boosting", 2), ("deep", 3)):
        world.train(name, "trees", "objects.h5", 300, train={"seed": seed}, validate=VALIDATE)
    with h5py.File(world.folder / "objects.h5") as file:
        columns = {name: file[name][:] for name in file if file[name].ndim == 1}
    lines = [",".join(columns), *(",".join(str(cell) for cell in row) for row in zip(*columns.values(), strict=True))]
    (world.folder / "objects.csv").write_text("\n".join(lines) + "\n")


def registry(world: World) -> None:
    """A registry with two versions of photoz, the second one the champion and the first one its predecessor."""
    forests(world)
    world.type(["hpctrain", "signature", "keygen", "--out", "leads"])
    for name in ("forest", "boosting"):
        world.type(["hpctrain", "validate", name])
        world.type(["hpctrain", "registry", "add", name, "--name", "photoz"])
    world.type(["hpctrain", "validate", "deep"])
    for version in (1, 2):
        words = ["promote", f"photoz:{version}", "--to", "champion", "--why", "first"]
        world.type(["hpctrain", "registry", *words])
    words = ["promote", "photoz:1", "--to", "candidate", "--why", "next"]
    world.type(["hpctrain", "registry", *words])
    shutil.copytree(world.folder / world.place("model:forest"), world.folder / "bundle")


def evidence(world: World) -> None:
    """Runs of trees, and a key."""
    forests(world)
    world.type(["hpctrain", "signature", "keygen", "--out", "leads"])


def weekly(world: World) -> None:
    """A pipeline of two stages that has been run."""
    world.profiles()
    world.train("forest", "trees", "objects.h5", 300)
    (world.folder / "weekly.yaml").write_text(WEEKLY)
    world.type(["hpctrain", "pipeline", "weekly.yaml"])


def studies(world: World) -> None:
    """A finished study of trees, and a cross-validation."""
    forests(world)
    (world.folder / "trees-search.yaml").write_text(STUDY)
    (world.folder / "again.yaml").write_text(STUDY.replace("trees-search", "again"))
    world.type(["hpctrain", "search", "trees-search.yaml", "--wait"])


def everyday(world: World) -> None:
    """Two runs, and a table that is new."""
    world.quickstart()
    TINY["trees"].tiny_file(world.folder / "mgs.h5", num=300)


def images(world: World) -> None:
    """A run on images."""
    world.profiles()
    world.train("images", "image_cnn", "images.h5")


def light_curves(world: World) -> None:
    """A run on light curves."""
    world.profiles()
    world.train("curves", "light_curve_transformer", "curves.h5")


def cnn(world: World) -> None:
    """A run that reads labels off spectra."""
    world.profiles()
    world.train("cnn", "spectral_cnn", "spectra.h5")


def clusters(world: World) -> None:
    """A run that groups the objects of a table."""
    forests(world)
    world.train("tiny-clusters", "clusters", "objects.h5")
