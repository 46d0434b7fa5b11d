"""How the commands of each page run: in which world, what the words of the page are there, and which do not run.

A page without an entry shows no command. A command is named by its beginning.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

RUN_BY_HAND = {
    "make ": "a target of the Makefile: what it does is tested by other means, or it is these tests",
    "python -m benchmarks": "measures for minutes",
}
"""Beginnings of commands that no page's test runs."""


@dataclass(frozen=True)
class Page:
    """How the commands of a page run.

    Parameters
    ----------
    world : str
        Function of :mod:`worlds` that makes the folder.
    given : dict
        Words of the page, or the first part of a path there, and what they are in that folder.
    codes : dict
        Beginning of a command, and the exit code that is right if it is not 0.
    not_run : dict
        Beginning of a command that does not run, and why.
    runs_python : bool
        Whether its blocks of Python run before.
    is_exact : bool
        Whether the answers are compared with what the page shows.
    is_quick : bool
        Whether ``make test`` runs it, and not only ``ALL_FAULTS=1``.
    """

    world: str = "empty"
    given: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    runs_python: bool = False
    is_exact: bool = False
    is_quick: bool = False


_BY_DATA = "survey files are not part of the project; tests/unit/ingest runs it where they are"
_CLOUD = "needs an account; tests/contract/test_targets.py submits to an imitation"
_SERVER = "needs a server; tests/flow/test_tracking_flow.py starts one"

GROUP = grp.getgrgid(os.getgid()).gr_name
"""A group that exists here."""

PAGES: dict[str, Page] = {
    "README.md": Page(
        "clone",
        {"demo/runs/quickstart/20261126-132642-e389": "run:quickstart"},
        not_run={
            "hpctrain ingest desi": _BY_DATA,
            "hpctrain check profiles/hpc.yaml": "needs survey files; tests/repo/test_shipped_profiles.py checks it",
            "hpc-submit profiles/hpc.yaml": "needs a cluster; tests/repo/test_shipped_profiles.py renders it",
        },
    ),
    "advice.md": Page(
        "runs", {"RUN": "quickstart", "overfit-1": "quickstart"}, codes={"hpctrain advise RUN --apply": 2}
    ),
    "alerts.md": Page(
        "empty", not_run={"hpc-submit profiles": "needs a cluster, and somebody who hears"}, is_quick=True
    ),
    "anomalies.md": Page(
        "runs",
        {"RUN": "quickstart", "data/spectra.h5": "quickstart.h5"},
        not_run={"hpctrain anomalies latents.h5 --rated": "a person rates objects before"},
    ),
    "autopsy.md": Page(
        "runs",
        {
            "RUN": "quickstart",
            "vae": "quickstart",
            "PROFILE": "quickstart.yaml",
            "vae.yaml": "quickstart.yaml",
            "1234": "12",
        },
    ),
    "checkpoints.md": Page(
        "runs",
        {"runs/NAME/ID": "quickstart"},
        not_run={
            "hpctrain pull s3:": "needs an object store; tests/flow/test_mirror_on_s3.py starts one",
            "hpc-submit --resume runs/NAME/ID --set 'data.files": "another cluster; tests/flow/test_mirror_flow.py",
        },
    ),
    "clouds.md": Page(
        "empty", not_run={"hpctrain check profiles": _CLOUD, "hpc-submit": _CLOUD, "hpctrain status RUN": _CLOUD}
    ),
    "cluster.md": Page("runs", not_run={"": "needs a cluster; tests/slurm does the same on a real Slurm"}),
    "clusters.md": Page("clusters", {"RUN": "tiny-clusters"}),
    "continuous-training.md": Page("empty", not_run={"": "tests/flow/test_ten_weeks.py goes through ten weeks of it"}),
    "cost.md": Page(
        "runs",
        {"RUN": "quickstart"},
        not_run={
            "hpctrain local p.yaml": "tests/flow/test_local.py",
            "hpctrain cost STUDY": "tests/unit/cost",
            "hpctrain cost PIPELINE": "tests/unit/cost",
        },
    ),
    "data-validation.md": Page(
        "latents",
        {
            "week1.h5": "quickstart.h5",
            "week2.h5": "quickstart.h5",
            "week3.h5": "quickstart.h5",
            "new.h5": "quickstart.h5",
            "runs/photoz/20261126-120000-1a2b": "quickstart",
            "RUN/results/latents.h5": "latents.h5",
            "RUN": "quickstart",
        },
        codes={
            "hpctrain data validate new.h5 --against expectations.yaml --reference": 7,
            "hpctrain data validate new-latents.h5": 7,
        },
    ),
    "data.md": Page("runs", {"spectra.h5": "quickstart.h5"}),
    "everyday.md": Page(
        "everyday",
        {
            "RUN": "quickstart",
            "RUN...": "quickstart",
            "sdss.h5": "mgs.h5",
            "spectype": "colour",
            "FILE.h5": "quickstart.h5",
            "39628438": "id:quickstart.h5",
        },
        # Nobody can answer its question here.
        codes={"hpctrain clean --dry": 0, "hpctrain clean RUN": 0, "hpctrain clean": 2},
    ),
    "evidence.md": Page(
        "evidence",
        {
            "P": "forest.yaml",
            "RUN/model": "model:forest",
            "RUN": "forest",
            "OTHER": "boosting",
            "mine.pem": "leads.key",
        },
        not_run={
            "hpc-submit P --array": "needs Slurm; tests/slurm/test_launch_batch_script.py submits arrays",
            "hpctrain crossval": "tests/flow/test_crossval_flow.py",
            "hpctrain verify-resume": "tests/flow/test_verify_resume.py",
        },
    ),
    "export.md": Page(
        "runs",
        {"runs/desi/2026…": "quickstart", "model/": "model:quickstart", "spectra.h5": "quickstart.h5"},
        not_run={
            f"hpctrain export runs/desi/2026… --{way}": "tests/flow/test_export_run.py" for way in ("prune", "quantise")
        },
    ),
    "feature-store.md": Page(
        "runs",
        {"RUN": "quickstart", "spectra.h5": "quickstart.h5"},
        not_run={"hpctrain features feast epochs.h5": "tests/flow/test_features_in_feast.py"},
    ),
    "first-run.md": Page("empty"),
    "image-cnn.md": Page("images", {"RUN": "images"}),
    "images.md": Page("clone", {"../my_network": "my_network"}),
    "ingest.md": Page("empty", not_run={"": _BY_DATA}),
    "install.md": Page(
        "empty", not_run={"hpctrain image": "needs Apptainer; tests/flow/test_image_is_built.py builds"}, is_quick=True
    ),
    "jetson.md": Page("empty", not_run={"": "tests/flow/test_local.py and tests/unit/edge do all of it"}),
    "kubernetes.md": Page(
        "empty", not_run={"": "needs a cluster; tests/contract/test_targets.py submits to an imitation"}
    ),
    "light-curves.md": Page(
        "light_curves", not_run={"hpctrain ingest light-curves": "tests/unit/ingest/light_curves reads such files"}
    ),
    "lint.md": Page("clone", codes={"hpctrain lint": 7}, is_exact=True, is_quick=True),
    "model.md": Page(
        "runs", {"RUN": "quickstart", "FILE.h5": "quickstart.h5"}, not_run={"hpctrain ingest sdss": _BY_DATA}
    ),
    "monitoring.md": Page(
        "runs",
        {"RUN": "quickstart", "runs/orin-vae/20261121-095322-8190": "quickstart", "FILE.txt": "my-board.txt"},
    ),
    "orchestrators.md": Page("weekly"),
    "own-data.md": Page("empty", runs_python=True, is_exact=True, is_quick=True),
    "own-model.md": Page("empty", not_run={"": "tests/contract/test_families.py does all of it with this family"}),
    "performance.md": Page("empty", not_run={"hpctrain trace": "tests/flow/test_resume_exact.py records a trace"}),
    "pipeline.md": Page(
        "weekly",
        {"sdss": "weekly"},
        not_run={"hpctrain pipeline pipeline.yaml": "tests/repo/test_shipped_profiles.py runs it"},
    ),
    "ray.md": Page("empty", not_run={"": "needs Ray; tests/flow/test_run_on_ray.py starts it"}),
    "redshift.md": Page(
        "runs",
        {"spectra.h5": "quickstart.h5", "labelled.h5": "quickstart.h5"},
        not_run={"hpctrain ingest desi": _BY_DATA},
    ),
    "registry.md": Page("registry", {"RUN": "deep", "FILE": "objects.csv", "HEAD|SHA": "HEAD"}),
    "report.md": Page("runs", {"runs/quickstart/20261121-033522-4699": "quickstart", "RUN": "quickstart"}),
    "runs-in-sql.md": Page(
        "runs",
        codes={'hpctrain list --where "chii2': 2},
        not_run={"hpctrain index page --runs-dir /project": "a folder of a project"},
    ),
    "searching.md": Page(
        "studies",
        {
            "STUDY": "trees-search",
            "profiles/search.yaml": "again.yaml",
            "vae-search": "trees-search",
            "new.h5": "objects.h5",
        },
        not_run={"hpctrain search export": "needs a database; tests/unit/search/test_export.py"},
    ),
    "security.md": Page(
        "registry",
        {
            "RUN": "deep",
            "photoz:3": "photoz:2",
            "FILE": "objects.csv",
            "BUNDLE": "bundle",
            "/shared/runs/quasars": "runs",
            "astro": GROUP,
        },
        # The first version is not signed, and the private key lies in the folder that is searched.
        codes={"hpctrain registry verify --public-key": 5, "hpctrain scan-secrets .": 7},
        not_run={
            "python -m hpctrain.local": "tests/unit/edge runs bundles with signatures",
            "hpctrain signature sign BUNDLE --key mine.key": "needs a certificate; tests/unit/signing makes one",
            "hpctrain signature verify BUNDLE --public-key ca.pem": "needs a certificate; tests/unit/signing makes one",
        },
    ),
    "spectral-cnn.md": Page("cnn", {"RUN": "cnn"}),
    "tracking.md": Page("empty", not_run={"": _SERVER}),
    "training.md": Page("runs", {"runs/NAME/ID": "run:quickstart"}),
    "trees.md": Page("forests", {"RUN": "forest"}),
    "validation.md": Page(
        "forests",
        {
            "RUN": "forest",
            "PROFILE": "forest.yaml",
            "profiles/trees.yaml": "forest.yaml",
            "RUN2": "boosting",
            "RUN3": "deep",
            "Z.nmad": "z.nmad",
        },
        not_run={
            "hpctrain crossval": "tests/flow/test_crossval_flow.py",
            "hpctrain search status my-crossval": "tests/flow/test_crossval_flow.py",
            "hpctrain compare runs/": "tests/flow/test_crossval_flow.py",
            "hpctrain compare forest boosting deep --all-pairs --by sky": "needs positions; tests/unit/validation",
            "hpctrain predict RUN curves.h5": "a network with dropout; tests/unit/validation",
        },
    ),
    "verify-resume.md": Page(
        "clone", not_run={"hpctrain verify-resume profiles": "tests/flow/test_verify_resume.py"}, is_quick=True
    ),
    "development.md": Page("empty", not_run={"hpctrain report /tmp/kept": "the run that a test has kept"}),
}
