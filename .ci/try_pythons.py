"""Install every extra beside constraints.txt on every supported Python, try each, and print a table.

    make pythons                              try Python 3.10 to 3.13, as far as this machine has them
    make pythons ARGS="3.12 --extra remote"   try one extra on one Python

The script searches for interpreters on PATH, in pyenv's folder (~/.pyenv/versions) and in uv's folder. If it finds none
for a version, it only resolves the packages for that version, and the table shows "resolves". Every cell has an
environment of its own, which the script removes afterwards. uv's cache makes that cheap; the first time, uv downloads
torch for each Python.
"""

from __future__ import annotations

import argparse
import configparser
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from install import bring_uv, pip_settings, uv_environment

CHECKOUT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
IMPORTS = {
    "": "hpctrain.train.attempt submitit h5py astropy.io.fits sklearn.ensemble tensorboard matplotlib pynvml",
    "edge": "onnxruntime",
    "export": "onnx onnxruntime onnxscript",
    "alerts": "fastavro",
    "images": "PIL.Image",
    "parquet": "pyarrow.parquet",
    "specutils": "specutils",
    "shap": "shap",
    "umap": "umap",
    "filters": "hdf5plugin deflate",
    "remote": "fsspec aiohttp s3fs",
    "prometheus": "prometheus_client",
    "mlflow": "mlflow.tracking",
    "wandb": "wandb",
    "signing": "model_signing",
    "ray": "ray.tune optuna",
    "benchmark": "webdataset datasets litdata boto3",
    "release": "twine check_wheel_contents setuptools",
    "docs": "sphinx furo myst_parser myst_nb ipykernel numpydoc",
    "test": "pytest hypothesis spectres importlinter numpydoc",
}
"""Modules to import after installing an extra; "" means hpctrain without extras."""

SMALL = ("data.simulate.num_spectra=300", "data.simulate.num_pixels=200", "train.epochs=1", "train.warmup_steps=1")


def extras() -> list[str]:
    """Return the names of all extras, and "" for hpctrain without extras."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    return ["", *setup["options.extras_require"]]


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version, or None."""
    found = [shutil.which(f"python{version}")]
    found += sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3")), reverse=True)
    found += sorted(glob.glob(os.path.expanduser(f"~/.local/share/uv/python/cpython-{version}.*/bin/python3")))
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, found):
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True)  # pyenv's shims may answer nothing
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    return None


class Attempt:
    """Try one extra on one Python.

    Parameters
    ----------
    uv : list of str
        Command of uv.
    version, extra : str
        For example ``"3.12"`` and ``"remote"``; an empty `extra` means hpctrain without extras.
    """

    def __init__(self, uv: list[str], version: str, extra: str) -> None:
        self.uv, self.version, self.extra = uv, version, extra
        self.environment = uv_environment(pip_settings())
        self.message = ""

    def call(self, *command: str, cwd: Path = CHECKOUT) -> bool:
        """Run a command; if it fails, keep its output."""
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            self.message = f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.returncode == 0

    def resolve(self) -> str:
        """Resolve the packages for a Python that this machine does not have; return ``resolves`` or ``FAILS``."""
        chosen = ["--extra", self.extra] if self.extra else []
        where = ["--python-version", self.version, "--python-platform", "linux", "--constraint", "constraints.txt"]
        return "resolves" if self.call(*self.uv, "pip", "compile", "--quiet", *where, *chosen, "setup.cfg") else "FAILS"

    def install(self, python: str) -> str:
        """Make an environment, install and import the packages, train; return ``works`` or the step that fails."""
        with tempfile.TemporaryDirectory(prefix="hpctrain-pythons-") as folder:
            venv = Path(folder) / "venv"
            interpreter = str(venv / "bin" / "python")
            wanted = f"{CHECKOUT}[{self.extra}]" if self.extra else str(CHECKOUT)
            if not self.call(*self.uv, "venv", "--quiet", "--python", python, str(venv)):
                return "FAILS: venv"
            install = ["pip", "install", "--quiet", "--python", interpreter, "--constraint", "constraints.txt"]
            if not self.call(*self.uv, *install, wanted):
                return "FAILS: install"
            imports = IMPORTS[self.extra].split()
            if not self.call(interpreter, "-c", f"import {', '.join(imports)}", cwd=Path(folder)):
                return "FAILS: import"
            return "works" if self.extra or self.train(venv, Path(folder)) else "FAILS: run"

    def train(self, venv: Path, folder: Path) -> bool:
        """Check a profile and train a small network, in an empty folder outside the checkout."""
        command, profile = str(venv / "bin" / "hpctrain"), str(CHECKOUT / "profiles" / "quickstart.yaml")
        return all(
            self.call(command, verb, profile, *(word for item in SMALL for word in ("--set", item)), cwd=folder)
            for verb in ("check", "local")
        )


def main() -> int:
    """Try the Python versions and extras of the command line; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=PYTHONS, metavar="VERSION", help="default: all supported")
    parser.add_argument(
        "--extra", action="append", choices=extras(), help="default: all extras, and hpctrain without extras"
    )
    options = parser.parse_args()
    uv = bring_uv()
    if uv is None:
        print("this script needs uv, and pip cannot install it here", file=sys.stderr)
        return 1
    wanted = options.extra or extras()
    rows, messages = [], []
    for version in options.pythons:
        python = find_python(version)
        row = [f"{version}: {python}" if python else f"{version}: no interpreter found"]
        for extra in wanted:
            attempt = Attempt(uv, version, extra)
            row.append(attempt.install(python) if python else attempt.resolve())
            print(f"Python {version}, {f'hpctrain[{extra}]' if extra else 'hpctrain'}: {row[-1]}", flush=True)
            messages += [attempt.message] if attempt.message else []
        rows.append(row)
    print("\n" + "\n\n".join(messages) if messages else "")
    head = ["Python", *(f"[{extra}]" if extra else "hpctrain" for extra in wanted)]
    for row in (head, *rows):
        print("  ".join(f"{cell:<{max(12, len(name))}}" for cell, name in zip(row[1:], head[1:], strict=True)), row[0])
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
