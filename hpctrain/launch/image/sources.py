"""What an image is made of: hpctrain as it runs here, the versions of its packages, packages of the user."""

from __future__ import annotations

import base64
import configparser
import hashlib
import importlib.metadata
import shutil
import zipfile
from pathlib import Path

from hpctrain import __version__
from hpctrain.errors import SiteError
from hpctrain.launch.image.recipe import PACKAGES

SOURCE = "source"
"""Folder of the build with the files of a checkout."""
WHEEL = f"hpctrain-{__version__}-py3-none-any.whl"
_OF_A_CHECKOUT = (
    "hpctrain/",
    "docs/",
    "profiles/",
    "slurm/",
    "setup.cfg",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
)
"""Files and folders of a checkout that pip needs."""
_LEFT_OUT = ("__pycache__", "*.egg-info", "build", "dist", ".*")
"""Names in a package of the user that are no part of it."""
_OF_AN_INSTALLATION = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json")
"""Files beside the metadata that an installer has added to those of the wheel."""
_LARGEST_PACKAGE = 100 * 2**20
"""Size of a package of the user above which it is refused, because it holds data [bytes]."""


def checkout() -> Path | None:
    """Return the top of the checkout that hpctrain runs from; None if it is installed from a wheel."""
    root = Path(__file__).resolve().parents[3]
    return root if all((root / name).is_file() for name in ("setup.cfg", "pyproject.toml")) else None


def known_extras() -> list[str]:
    """Return the names of all extras of hpctrain."""
    root = checkout()
    if root is None:
        return sorted(importlib.metadata.metadata("hpctrain").get_all("Provides-Extra") or [])
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    return sorted(parser["options.extras_require"])


def write_hpctrain(folder: Path) -> str:
    """Write hpctrain as it runs here into a folder; return the name of its sources or of its wheel there.

    Raises
    ------
    SiteError
        hpctrain was installed without a list of its files.
    """
    root = checkout()
    if root is None:
        write_wheel(folder / WHEEL)
        return WHEEL
    for name in _OF_A_CHECKOUT:
        there = folder / SOURCE / name
        if (root / name).is_dir():
            shutil.copytree(root / name, there, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            there.parent.mkdir(exist_ok=True)
            shutil.copyfile(root / name, there)
    return SOURCE


def write_wheel(path: Path) -> None:
    """Write the wheel again that hpctrain is installed from, out of its installed files."""
    installed = importlib.metadata.distribution("hpctrain")
    if not installed.files:
        raise SiteError("hpctrain: its installation has no list of its files (RECORD); run this in a checkout instead")
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in sorted(map(str, installed.files)):
            if name.startswith("..") or "__pycache__" in name or name.rpartition("/")[2] in _OF_AN_INSTALLATION:
                continue
            content = Path(str(installed.locate_file(name))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            rows.append(f"{name},sha256={digest},{len(content)}")
            wheel.writestr(_entry(name), content)
        record = f"hpctrain-{__version__}.dist-info/RECORD"
        wheel.writestr(_entry(record), "\n".join([*rows, f"{record},,"]) + "\n")


def package_problem(path: Path) -> str | None:
    """Return why a package of the user cannot be installed into an image; None if it can."""
    if path.is_file():
        return None if path.suffix == ".whl" else "is no wheel; give a folder with pyproject.toml or a .whl file"
    if not path.is_dir():
        return "does not exist"
    if not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
        return "has no pyproject.toml or setup.py, so pip cannot install it"
    ignored = shutil.ignore_patterns(*_LEFT_OUT)
    size = 0
    folders = [path]
    while folders:
        here = folders.pop()
        names = [item.name for item in here.iterdir()]
        kept = [here / name for name in names if name not in ignored(str(here), names)]
        folders += [item for item in kept if item.is_dir() and not item.is_symlink()]
        size += sum(item.lstat().st_size for item in kept if not item.is_dir())
    if size > _LARGEST_PACKAGE:
        return f"has {size / 2**20:.0f} MiB, at most {_LARGEST_PACKAGE // 2**20} are allowed; keep data elsewhere"
    return None


def copy_package(path: Path, folder: Path) -> str:
    """Copy a package of the user to the files of the build; return its name in the folder of packages."""
    path = path.resolve()
    there = folder / PACKAGES / path.name
    there.parent.mkdir(exist_ok=True)
    if path.is_file():
        shutil.copyfile(path, there)
    else:
        shutil.copytree(path, there, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    return path.name


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # the same time in each, so that the same files make the same wheel
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
