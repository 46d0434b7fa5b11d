"""Judge the redshifts of `hpctrain redshift` on held-out spectra, and compare them with redrock's.

    python benchmarks/redshift.py [--num 600] [--seeds 3] [--sdss FOLDER] [--desi FOLDER]
        [--redrock PYTHON --redrock-templates FOLDER]

Simulated spectra: templates of one simulation, redshifts of others; all are judged, also the unusual ones. Real SDSS
spectra (--sdss, a folder of spec-*.fits): quasars, galaxies and stars without a redshift warning; each object is held
out once, and the templates of a fold are made of the other objects together with simulated spectra. DESI (--desi, a
folder of coadd-*.fits with redrock-* or QSO_cat_* tables beside them): templates of simulated and all SDSS spectra,
judged by these tables. --redrock runs redrock on the same coadds, in a Python that has it
(benchmarks/redshift_redrock.py), with the template files in a folder.

A redshift fails if |z - true z| / (1 + true z) is above .003 or .01. Intervals are exact binomial ones (95 %).
Times are those of one CPU core (process time).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.stats import beta

from hpctrain.cli import main as hpctrain
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.section import ColumnsWithoutRedshift, SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import Simulator
from hpctrain.redshift.build import NUM_COMPONENTS, NUM_SIMULATED, build_templates
from hpctrain.redshift.estimate import RedshiftEstimator
from hpctrain.redshift.templates import Templates, save_templates

BATCH = 128
HEADER = (
    f"{'':34}{'n':>6}{'NMAD':>9}   {'fail > .003':22}{'fail > .01':22}{'kept':>7}   {'kept, > .003':22}"
    f"{'kept, > .01':22}{'class':>7}"
)


@dataclass
class Judged:
    """Redshifts found, and the truth; all arrays have shape (n,)."""

    found: dict[str, np.ndarray]
    truth: np.ndarray
    spectype: np.ndarray
    name: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """|z - true z| / (1 + true z)."""
        return np.abs(self.found["Z"] - self.truth) / (1 + self.truth)

    def take(self, rows: np.ndarray) -> Judged:
        """Return some of them."""
        found = {name: values[rows] for name, values in self.found.items()}
        return Judged(found, self.truth[rows], self.spectype[rows], self.name[rows])

    def line(self, title: str) -> str:
        """Return a line of the table."""
        kept = self.found["ZWARN"] == 0
        fails = [share(self.error[rows] > limit) for rows in (slice(None), kept) for limit in (0.003, 0.01)]
        nmad = 1.4826 * np.median(self.error)
        right = np.mean(self.found["SPECTYPE"] == self.spectype)
        cells = f"{fails[0]:22}{fails[1]:22}{kept.mean():7.1%}   {fails[2]:22}{fails[3]:22}{right:7.1%}"
        return f"{title:34}{len(self.truth):6}{nmad:9.5f}   {cells}"


def share(fails: np.ndarray) -> str:
    """Return a share with its 95 % interval of Clopper and Pearson."""
    count, total = int(fails.sum()), len(fails)
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return f"{count / max(total, 1):.2%} ({low:.1%}-{high:.1%})"


def join(parts: list[Judged]) -> Judged:
    """Return all of them as one, without coefficients and densities, whose number depends on the templates."""
    names = [name for name, values in parts[0].found.items() if values.ndim == 1]
    found = {name: np.concatenate([part.found[name] for part in parts]) for name in names}
    rest = [np.concatenate([getattr(part, field) for part in parts]) for field in ("truth", "spectype", "name")]
    return Judged(found, *rest)


def estimate(templates: Templates, batches: list[SpectraBatch]) -> tuple[dict[str, np.ndarray], float]:
    """Return the columns of all spectra, and the CPU time for each [s]."""
    estimator = RedshiftEstimator(templates)
    estimator(batches[0])  # the transforms of the templates are kept
    start = time.process_time()
    parts = [estimator(batch) for batch in batches]
    seconds = (time.process_time() - start) / sum(len(batch) for batch in batches)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, seconds


def simulated(args: argparse.Namespace) -> None:
    """Judge simulated spectra of several signal to noise ratios."""
    made_of = f"templates of {args.simulated:,} spectra of each class, {args.components} components"
    print(f"\nsimulated, 1,000 pixels, {made_of}")
    print(HEADER)
    made = []
    for seed in range(args.seeds):
        wavelength = Simulator(SimulateSection(num_pixels=1000)).wavelength_aa
        options = {"num_simulated": args.simulated, "num_components": args.components, "seed": 1000 + seed}
        made.append(build_templates([], wavelength_aa=wavelength, **options)[0])
    for snr, title in ((4.0, "default S/N"), (1.0, "--snr-median 1"), (0.5, "--snr-median 0.5")):
        parts, times = [], []
        for seed, templates in enumerate(made):
            section = SimulateSection(num_spectra=args.num, num_pixels=1000, seed=seed, snr_median=snr)
            judged, seconds = judge_simulated(templates, section)
            parts.append(judged)
            times.append(seconds)
        print(f"{join(parts).line(title)}  {1e3 * np.mean(times):.1f} ms", flush=True)


def judge_simulated(templates: Templates, section: SimulateSection) -> tuple[Judged, float]:
    """Return redshifts of simulated spectra, without dead fibres, and the time for each."""
    simulator = Simulator(section)
    wavelength = torch.from_numpy(simulator.wavelength_aa.astype(np.float32))
    batches, truth, spectype = [], [], []
    for start in range(0, section.num_spectra, BATCH):
        rows = np.arange(start, min(start + BATCH, section.num_spectra))
        block = simulator.rows(rows)
        ids = torch.from_numpy(rows)
        flux, ivar = torch.from_numpy(block.flux), torch.from_numpy(block.ivar)
        batches.append(SpectraBatch(flux, ivar, wavelength, torch.zeros(len(rows)), ids, ids))
        truth.append(block.columns["true_redshift"])
        spectype.append(block.columns["spectype"])
    found, seconds = estimate(templates, batches)
    names = np.array([f"seed {section.seed} row {row}" for row in range(section.num_spectra)])
    judged = Judged(found, np.concatenate(truth), np.concatenate(spectype), names)
    return judged.take(found["NPIXELS"] > 0), seconds


def ingest(*arguments: str) -> SpectraSet:
    """Run `hpctrain ingest`, and open its output."""
    out = Path(tempfile.mkdtemp(prefix="redshift-")) / "spectra.h5"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = hpctrain(["ingest", *arguments, "--out", str(out)])
    if code:
        raise SystemExit(printed.getvalue())
    return open_spectra(SpectraSection(files=[str(out)]))


def judge_rows(templates: Templates, spectra: SpectraSet, rows: np.ndarray) -> tuple[Judged, float]:
    """Return redshifts of some rows of a file, and the time for each."""
    batches = [spectra.read(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    found, seconds = estimate(templates, batches)
    path, _ = spectra.locate(0)
    with h5py.File(path) as file:
        sources, number = file["provenance/source_files"].asstr()[()], file["source_file"][()][rows]
        spectype, redshift = np.char.strip(file["spectype"][()][rows]), file["redshift"][()][rows]
        row_of = file["source_row"][()][rows]
        names = [f"{Path(sources[each]).name}:{row}" for each, row in zip(number, row_of, strict=True)]
    return Judged(found, redshift, spectype, np.array(names)), seconds


def real(args: argparse.Namespace) -> None:
    """Judge SDSS spectra, each object by templates that were made without it."""
    spectra = ingest("sdss", str(args.sdss), "--zwarn", "good", "--spectype", "QSO,GALAXY,STAR")
    objects = np.unique(spectra.target_id)
    print(
        f"\nSDSS: {len(spectra)} spectra of {len(objects)} objects in {args.folds} folds, {spectra.num_pixels} pixels"
    )
    print(HEADER, flush=True)
    fold = dict(zip(objects, np.random.default_rng(0).permutation(len(objects)) % args.folds, strict=True))
    fold_of_row = np.array([fold[each] for each in spectra.target_id])
    parts = []
    for number in range(args.folds):
        training = subset(spectra, np.flatnonzero(fold_of_row != number))
        options = {"num_simulated": args.pooled, "num_components": args.real_components}
        templates, _ = build_templates([training], **options)
        parts.append(judge_rows(templates, spectra, np.flatnonzero(fold_of_row == number))[0])
    judged = join(parts)
    for title, names in (("quasars and galaxies", (b"QSO", b"GALAXY")), ("stars", (b"STAR",))):
        print(judged.take(np.isin(judged.spectype, names)).line(title), flush=True)
    list_worst(judged)


def subset(spectra: SpectraSet, rows: np.ndarray) -> SpectraSet:
    """Return some rows of a file of spectra as a file of their own."""
    path, _ = spectra.locate(0)
    out = Path(tempfile.mkdtemp(prefix="redshift-")) / "training.h5"
    with h5py.File(path) as source, h5py.File(out, "w") as file:
        for name, dataset in source.items():
            if isinstance(dataset, h5py.Dataset):
                file[name] = dataset[()][rows] if dataset.shape[0] == len(spectra) else dataset[()]
    return open_spectra(SpectraSection(files=[str(out)]))


def list_worst(judged: Judged, most: int = 12) -> None:
    """Print the objects whose redshifts differ most from those of the survey."""
    print("worst:")
    for row in np.argsort(-judged.error)[:most]:
        if judged.error[row] > 0.003:
            each = {name: values[row] for name, values in judged.found.items()}
            ours = f"{each['SPECTYPE'].decode()} {each['Z']:.4f} (second {each['Z_SECOND']:.4f})"
            truth = f"{judged.spectype[row].decode()} {judged.truth[row]:.4f}"
            reduced = each["CHI2"] / each["NPIXELS"]
            more = f"delta chi2 {each['DELTACHI2']:.0f}, ZWARN {each['ZWARN']}, chi2/n {reduced:.2f}"
            print(f"  {judged.name[row]}: survey {truth}, here {ours}; {more}")


def desi(args: argparse.Namespace) -> None:
    """Judge DESI coadds by the redshifts of the survey, and run redrock on them and on those without one."""
    catalogues = sorted(str(path) for path in args.desi.glob("QSO_cat_*"))
    redrock = sorted(str(path) for path in args.desi.glob("redrock-*"))
    coadds = sorted(str(path) for path in args.desi.glob("*coadd*.fits*"))
    spectra = ingest("desi", *coadds, "--redshifts", *catalogues, *redrock)
    training = [ingest("sdss", str(args.sdss), "--zwarn", "good")] if args.sdss else []
    options = {"num_simulated": args.simulated, "num_components": args.components}
    templates, _ = build_templates(training, wavelength_aa=spectra.wavelength_aa, **options)
    path, _ = spectra.locate(0)
    unread = open_spectra(SpectraSection(files=[str(path)], columns=ColumnsWithoutRedshift()))
    everything, seconds = judge_rows(templates, unread, np.arange(len(unread)))
    judged = everything.take(np.isfinite(everything.truth))
    print(f"\nDESI: {len(judged.truth)} coadds with a redshift of the survey, {spectra.num_pixels} pixels")
    print(HEADER)
    print(f"{judged.line('hpctrain')}  {1e3 * seconds:.1f} ms", flush=True)
    if args.redrock:
        compare_redrock(args, templates, coadds, everything)
    list_worst(judged)


def compare_redrock(args: argparse.Namespace, templates: Templates, coadds: list[str], ours: Judged) -> None:
    """Run redrock on the coadds; print its line of the table, and on how many spectra the two agree."""
    folder = Path(tempfile.mkdtemp(prefix="redshift-"))
    save_templates(folder / "ours.h5", templates)
    script = Path(__file__).with_name("redshift_redrock.py")
    names = [str(folder / "redrock.json"), str(args.redrock_templates), str(folder / "ours.h5"), *coadds]
    subprocess.run([str(args.redrock), str(script), *names], check=True, stdout=subprocess.DEVNULL)
    result = json.loads((folder / "redrock.json").read_text())
    rows = [result["rows"][name] for name in ours.name]
    found = {
        "Z": np.array([row[0] for row in rows]),
        "ZWARN": np.array([row[1] for row in rows]),
        "SPECTYPE": np.array([row[2] for row in rows], dtype="S8"),
        "DELTACHI2": np.array([row[3] for row in rows]),
    }
    theirs = Judged(found, ours.truth, ours.spectype, ours.name)
    speed = f"{1e3 * result['seconds'] / len(result['rows']):.0f} ms"
    labelled = theirs.take(np.isfinite(theirs.truth))
    print(f"{labelled.line('redrock ' + result['version'])}  {speed}", flush=True)
    note = "those of hpctrain for galaxies" if result["galaxies_are_ours"] else "all its own"
    print(f"  {result['num_templates']} templates, {note}")
    print_agreement(ours, theirs)


def print_agreement(ours: Judged, theirs: Judged) -> None:
    """Print on how many spectra two estimates agree, and where two that both are sure of differ."""
    apart = np.abs(ours.found["Z"] - theirs.found["Z"]) / (1 + theirs.found["Z"])
    kept = [each.found["ZWARN"] == 0 for each in (ours, theirs)]
    labelled, both = np.isfinite(ours.truth), kept[0] & kept[1]
    for title, rows in (("with a redshift of the survey", labelled), ("without one", ~labelled)):
        sure = rows & both
        same = [f"{(apart[chosen] < 0.003).sum()} of {chosen.sum()}" for chosen in (rows, sure)]
        print(f"  {title}: the two agree within .003 on {same[0]}; where both have ZWARN 0, on {same[1]}")
    for row in np.flatnonzero(apart >= 0.003):
        cells = [
            f"{each.found['SPECTYPE'][row].decode()} {each.found['Z'][row]:.4f} (delta chi2 "
            f"{each.found['DELTACHI2'][row]:.0f}, ZWARN {each.found['ZWARN'][row]})"
            for each in (ours, theirs)
        ]
        survey = f"{ours.truth[row]:.4f}" if labelled[row] else "none"
        print(f"    {ours.name[row]}: hpctrain {cells[0]}, redrock {cells[1]}, survey {survey}")


def speed(args: argparse.Namespace) -> None:
    """Measure the CPU time for a spectrum on DESI's grid, and print what follows for a million."""
    templates, _ = build_templates([], num_simulated=args.simulated, num_components=args.components)
    section = SimulateSection(num_spectra=2 * BATCH, seed=5)
    judged, seconds = judge_simulated(templates, section)
    print(f"\nDESI's grid of 7,781 pixels, simulated: {1e3 * seconds:.1f} ms of one core for a spectrum\n{HEADER}")
    print(judged.line("default S/N"))
    hours = 1e6 * seconds / 3600
    print(f"by arithmetic: a million spectra need {hours:.1f} core hours, {60 * hours / 64:.0f} minutes on 64 cores")


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=600, help="simulated spectra to judge, of each seed (600)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (3)")
    parser.add_argument("--components", type=int, default=NUM_COMPONENTS, help="components of the templates")
    parser.add_argument("--simulated", type=int, default=NUM_SIMULATED, help="simulated spectra of each class")
    parser.add_argument("--sdss", type=Path, help="folder of SDSS spectra")
    parser.add_argument("--folds", type=int, default=3, help="folds of the SDSS objects (3)")
    parser.add_argument(
        "--pooled", type=int, default=250, help="simulated spectra of each class beside real ones (250)"
    )
    parser.add_argument("--real-components", type=int, default=5, help="components of templates of real spectra (5)")
    parser.add_argument("--desi", type=Path, help="folder of DESI coadds")
    parser.add_argument("--redrock", type=Path, help="a Python with redrock")
    parser.add_argument("--redrock-templates", type=Path, help="folder of redrock's templates")
    parser.add_argument("--only", choices=("simulated", "real", "desi", "speed"), help="run one part")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"simulated": simulated, "real": real if args.sdss else None, "desi": desi if args.desi else None}
    for name, part in {**parts, "speed": speed}.items():
        if part is not None and args.only in (None, name):
            part(args)


if __name__ == "__main__":
    main()
