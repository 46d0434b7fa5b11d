"""Make the gallery of reports: small real runs of every family on simulated data, a study, a pipeline, a comparison.

    python docs/gallery.py                 make them in build/gallery, and their pages for the site; ``make gallery``
    python docs/gallery.py --pictures      also make the pictures of gallery.md, with Chromium

What is there is not made again; remove build/gallery to begin anew. ``make docs`` puts the pages into the site if they
have been made.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
MADE = REPOSITORY / "build" / "gallery"
SITE = REPOSITORY / "build" / "gallery-site" / "gallery"
"""Copies of the pages alone, with the folders that their links name."""
WIDTH, SHOWN = 1240, 800
"""Widths of the window of the browser and of a picture [pixel]."""
COLOURS = (200, 96, 48, 24, 12)
"""Numbers of colours of a picture: the first one that makes it small enough."""
LARGEST_BYTES = 60_000

CHEAP = ("launch.ranks_per_node=1", "track.tensorboard=false")
TREES = (*CHEAP, "data.simulate.num_objects=2000", "model.trees=100")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "quickstart": (
        "quickstart.yaml",
        (*CHEAP, "data.simulate.num_spectra=1500", "data.simulate.num_pixels=256", "train.epochs=12"),
    ),
    "spectral-cnn": (
        "spectral-cnn.yaml",
        (*CHEAP, "data.simulate.num_spectra=2000", "data.simulate.num_pixels=256", "train.epochs=6"),
    ),
    "image-cnn": ("image-cnn.yaml", (*CHEAP, "data.simulate.num_images=1200", "train.epochs=6")),
    "light-curves": ("light-curves.yaml", (*CHEAP, "data.simulate.num_curves=1200", "train.epochs=8")),
    "trees": ("trees.yaml", TREES),
    "coarse-trees": ("trees.yaml", (*TREES, "name=coarse-trees", "model.min_leaf=100")),
    "clusters": ("clusters.yaml", (*CHEAP, "data.simulate.num_objects=2000")),
}
"""Name of a run: shipped profile, and what makes it small."""
JUDGED = ("spectral-cnn", "image-cnn", "light-curves", "trees", "coarse-trees")
"""Runs with labels, which can be validated."""
STUDY = """\
name: quickstart-search
base: {base}
set: [launch.ranks_per_node=1, data.simulate.num_spectra=600, data.simulate.num_pixels=128, train.epochs=2,
      train.warmup_steps=5, train.evaluate_every_steps=5, "data.files=[search.h5]"]
trials: 6
parallel: 1
sampler: {{name: tpe, startup_trials: 3}}
pruner: {{name: median, min_evaluations: 2, startup_trials: 3}}
space:
  train.learning_rate: {{low: 3.0e-4, high: 1.0e-2, log: true}}
  model.latent_size: [4, 8, 12]
"""
PIPELINE = """\
name: example
description: Simulated galaxies, stars and quasars, from new data to a registered model.
launch: {{cluster: local, gpus_per_node: 0}}
stages:
  - name: ingest
    run: hpctrain simulate --num-spectra 600 --num-pixels 128 --out {{out}}/data.h5
  - name: preprocess
    run: hpctrain data repack {{ingest}}/data.h5 --out {{out}}/spectra.h5
    outputs: [spectra.h5]
  - name: split
  - name: train
    profile: {profile}
    set: ['data.files=["{{preprocess}}/spectra.h5"]', train.epochs=3, train.evaluate_every_steps=10,
          launch.ranks_per_node=1]
  - name: evaluate
  - {{name: register, model: example}}
"""


@dataclass(frozen=True)
class Picture:
    """A part of a page of the gallery, as a picture of the documentation.

    Parameters
    ----------
    name : str
        Of the file in ``docs/img``.
    page : str
        Pattern of the page in the gallery.
    section : str
        Section at which it begins; empty for the head of the page.
    height : int
        Height of the window [pixel].
    """

    name: str
    page: str
    section: str = ""
    height: int = 760


PICTURES = (
    Picture("gallery-spectral-vae", "runs/quickstart/*/report.html", "reconstructions", 545),
    Picture("gallery-spectral-cnn", "runs/spectral-cnn/*/report.html", "values", 550),
    Picture("gallery-image-cnn", "runs/image-cnn/*/report.html", "saliency", 325),
    Picture("gallery-light-curves", "runs/light-curves/*/report.html", "early", 615),
    Picture("gallery-trees", "runs/trees/*/report.html", "values", 550),
    Picture("gallery-clusters", "runs/clusters/*/report.html", "clusters"),
    Picture("gallery-study", "runs/quickstart-search/*/report.html"),
    Picture("gallery-pipeline", "pipelines/example/*/report.html"),
    Picture("gallery-comparison", "comparison.html"),
    Picture("runs-page", "runs/index.html"),
)


def main() -> None:
    """Make what is missing, and copy the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="also make the pictures of gallery.md")
    options = parser.parse_args()
    MADE.mkdir(parents=True, exist_ok=True)
    make_runs()
    make_study()
    make_pipeline()
    if not (MADE / "comparison.html").exists():
        call("hpctrain", "compare", "trees", "coarse-trees", "--out", "comparison.html")
    call("hpctrain", "index", "page", "--reports")
    copy_pages()
    if options.pictures:
        for picture in PICTURES:
            draw(picture)
    print(SITE / "runs" / "index.html")


def call(*command: str) -> None:
    """Print a command as one would type it in the folder of the gallery, and run it."""
    print(f"$ {shlex.join(command)}", flush=True)
    words = [sys.executable, "-m", *command]
    known = {"PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))}
    subprocess.run(words, cwd=MADE, env={**os.environ, **known}, stdin=subprocess.DEVNULL, check=True)


def newest(pattern: str) -> Path | None:
    """Return the newest folder or file in the gallery that fits a pattern."""
    found = sorted(MADE.glob(pattern))
    return found[-1] if found else None


def make_runs() -> None:
    """Train and judge the runs that are not there."""
    for name, (profile, sets) in RUNS.items():
        if newest(f"runs/{name}/2*/model/model.json") is None:
            chosen = [f"--set={each}" for each in sets]
            call("hpctrain", "local", str(REPOSITORY / "profiles" / profile), *chosen)
        if name in JUDGED and newest(f"runs/{name}/2*/results/validation.json") is None:
            call("hpctrain", "validate", name)


def make_study() -> None:
    """Search on this machine, and write the page of the study."""
    if newest("runs/quickstart-search/2*/report.html") is not None:
        return
    file = MADE / "search.yaml"
    file.write_text(STUDY.format(base=REPOSITORY / "profiles" / "quickstart.yaml"), encoding="utf-8")
    call("hpctrain", "search", str(file), "--cluster", "local", "--no-memory", "--wait")
    call("hpctrain", "search", "report", "quickstart-search")


def make_pipeline() -> None:
    """Go through a pipeline on this machine, and write its page."""
    if newest("pipelines/example/2*/report.html") is not None:
        return
    file = MADE / "pipeline.yaml"
    file.write_text(PIPELINE.format(profile=REPOSITORY / "profiles" / "spectral-cnn.yaml"), encoding="utf-8")
    call("hpctrain", "pipeline", str(file))
    call("hpctrain", "pipeline", "report", "example")


def copy_pages() -> None:
    """Copy the pages alone, so that their relative links hold."""
    shutil.rmtree(SITE, ignore_errors=True)
    for page in sorted(MADE.rglob("*.html")):
        target = SITE / page.relative_to(MADE)
        if "latest" in target.parts:  # a link to the newest run
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(picture: Picture) -> None:
    """Make a picture of a page with Chromium, small enough to be committed.

    Raises
    ------
    SystemExit
        The page or the browser is missing, or the picture is too large.
    """
    page = newest(picture.page)
    browser = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if page is None or browser is None:
        sys.exit(f"{picture.page}: the page is missing, or Chromium is")
    with tempfile.TemporaryDirectory() as folder:
        shown, file = Path(folder) / "page.html", Path(folder) / "picture.png"
        text = page.read_text(encoding="utf-8").replace(str(MADE), "/project")
        shown.write_text(_beginning_at(text, picture.section), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/p"]
        size = f"--window-size={WIDTH},{picture.height}"
        subprocess.run([browser, *flags, size, f"--screenshot={file}", shown.as_uri()], check=True, capture_output=True)
        _shrink(file, DOCS / "img" / f"{picture.name}.png")


def _beginning_at(text: str, section: str) -> str:
    """Return a page without what is before a section."""
    if not section:
        return text
    if f'<section id="{section}">' not in text:
        known = ", ".join(re.findall('<section id="([^"]*)"', text))
        sys.exit(f"there is no section '{section}'; there are {known}")
    others = f"main > :not(#{section}):not(#{section} ~ *), header, nav {{ display: none !important; }}"
    return text.replace("</style>", f"{others} section {{ margin-top: 24px; }}</style>", 1)


def _shrink(source: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(source) as image:
        small = image.convert("RGB").resize(
            (SHOWN, round(image.height * SHOWN / image.width)), Image.Resampling.LANCZOS
        )
    for colours in COLOURS:
        small.quantize(colours, method=Image.Quantize.MEDIANCUT).save(target, optimize=True)
        if target.stat().st_size <= LARGEST_BYTES:
            return
    sys.exit(f"{target} has {target.stat().st_size} bytes; show less of the page")


if __name__ == "__main__":
    main()
