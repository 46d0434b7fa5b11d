"""The texts that build an image: pure functions from what a site wants to a Dockerfile and an Apptainer definition.

Both install into one virtual environment with the versions of ``constraints.txt``. CUDA comes with torch's wheel and
the driver with the host, so the base image is a plain Python.

References
----------
Dockerfile reference (Docker Inc.); Apptainer user guide, definition files; PyTorch, installing previous versions.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from hpctrain import __version__

DOCKERFILE = "Dockerfile"
DEFINITION = "hpctrain.def"
IGNORE = ".dockerignore"
CONSTRAINTS = "constraints.txt"
PACKAGES = "packages"
"""Folder of the build with the packages of the user."""
_ENVIRONMENT = "/opt/env"
_BUILD = "/opt/build"
_TORCH_INDEX = "https://download.pytorch.org/whl"
_USER = 1000


@dataclass(frozen=True)
class Recipe:
    """What an image is to have.

    Parameters
    ----------
    source : str
        Name of the folder or wheel of hpctrain, beside the recipe.
    torch : str
        Version of torch.
    base : str
        Image with ``python3``, its venv module and a shell.
    cuda : str
        ``pypi`` for what torch's wheel on PyPI has, ``none`` for the CPU build, or a version such as ``12.6``.
    platform : str
        ``linux/amd64`` or ``linux/arm64``.
    extras : tuple of str
        Extras of hpctrain.
    packages : tuple of str
        Names of folders and wheels of the user in :data:`PACKAGES`.
    requirements : tuple of str
        Further packages from the index, as pip takes them.
    has_compiler : bool
        Whether the image has a C compiler, which ``train.compile`` needs.
    is_root : bool
        Whether its processes run as root.
    revision : str
        Commit of the checkout; empty without one.
    """

    source: str
    torch: str
    base: str = "python:3.12-slim"
    cuda: str = "pypi"
    platform: str = "linux/amd64"
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    has_compiler: bool = False
    is_root: bool = False
    revision: str = ""

    @property
    def torch_build(self) -> str:
        """Name of the build of torch on PyTorch's own index; empty for that of PyPI."""
        return {"pypi": "", "none": "cpu"}.get(self.cuda, f"cu{self.cuda.replace('.', '')}")


def dockerfile(recipe: Recipe) -> str:
    """Return the text of the Dockerfile: one stage installs, the other one has the result alone."""
    stages = [
        f"# Written by hpctrain image {__version__}. Build it in this folder:",
        f"#   docker build --platform {recipe.platform} --tag hpctrain:{__version__} .",
        f"FROM {recipe.base} AS build",
        "# For an index of your own: docker build --build-arg PIP_INDEX_URL=https://...",
        "ARG PIP_INDEX_URL=https://pypi.org/simple",
        "ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1",
        f"RUN {_make_environment()}",
        f"ENV PATH={_ENVIRONMENT}/bin:$PATH",
        f"COPY {CONSTRAINTS} {_BUILD}/",
        f"RUN {_install_torch(recipe)}",
        *(f"COPY {name} {_BUILD}/{name}" for name in _copied(recipe)[1:]),
        f"RUN {_install_the_rest(recipe)}",
        f"RUN {' && '.join(_checks())}",
        "",
        f"FROM {recipe.base}",
        _label(recipe),
    ]
    if recipe.has_compiler:
        stages += ["# hadolint ignore=DL3008", f"RUN {_install_compiler()}"]
    stages += [
        f"COPY --from=build {_ENVIRONMENT} {_ENVIRONMENT}",
        "# A user without a name, and a root file system that is read-only, find their places in /tmp.",
        f"ENV PATH={_ENVIRONMENT}/bin:$PATH HOME=/tmp USER=hpctrain PYTHONDONTWRITEBYTECODE=1",
        "WORKDIR /tmp",
        *([] if recipe.is_root else [f"USER {_USER}:{_USER}"]),
        'CMD ["hpctrain", "--help"]',
    ]
    return "\n".join(stages) + "\n"


def definition(recipe: Recipe) -> str:
    """Return the text of the Apptainer definition; its commands are those of the Dockerfile."""
    steps = [
        "set -e",
        "export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1",
        *([_install_compiler()] if recipe.has_compiler else []),
        _make_environment(),
        f"export PATH={_ENVIRONMENT}/bin:$PATH",
        _install_torch(recipe),
        _install_the_rest(recipe),
        f"rm -rf {_BUILD}",
    ]
    sections = {
        "%files": [f"{name} {_BUILD}/{name}" for name in _copied(recipe)],
        "%post": steps,
        "%environment": [f"export PATH={_ENVIRONMENT}/bin:$PATH"],
        "%labels": [f"version {__version__}", *([f"revision {recipe.revision}"] if recipe.revision else [])],
        "%test": [f"export PATH={_ENVIRONMENT}/bin:$PATH", *_checks()],
        "%runscript": ['exec hpctrain "$@"'],
    }
    lines = [
        f"# Written by hpctrain image {__version__}. Build it in this folder:",
        f"#   apptainer build hpctrain-{__version__}.sif {DEFINITION}",
        "Bootstrap: docker",
        f"From: {recipe.base}",
    ]
    for title, body in sections.items():
        lines += ["", title, *(f"    {line}" for line in body)]
    return "\n".join(lines) + "\n"


def dockerignore(recipe: Recipe) -> str:
    """Return a text that lets into the build what the Dockerfile copies, and nothing else of its folder."""
    return "\n".join(["*", *(f"!{name}" for name in _copied(recipe)), "**/__pycache__"]) + "\n"


def torch_of(constraints: str) -> str:
    """Return the version of torch that the text of ``constraints.txt`` names.

    Raises
    ------
    ValueError
        It names none.
    """
    found = re.search(r"(?m)^torch==([\w.]+)", constraints)
    if found is None:
        raise ValueError("constraints.txt names no version of torch")
    return found[1]


def _make_environment() -> str:
    return f"python3 -m venv {_ENVIRONMENT}"


def _pip(*words: str) -> str:
    return shlex.join(["pip", "install", "--constraint", f"{_BUILD}/{CONSTRAINTS}", *words])


def _copied(recipe: Recipe) -> list[str]:
    return [CONSTRAINTS, recipe.source, *([PACKAGES] if recipe.packages else [])]


def _install_torch(recipe: Recipe) -> str:
    """Return the command that installs torch, the largest part, which other sources of hpctrain do not change."""
    if not recipe.torch_build:
        return _pip(f"torch=={recipe.torch}")
    # Alone: what torch needs comes from PyPI, as all the rest, and not from another index.
    wanted = f"torch=={recipe.torch}+{recipe.torch_build}"
    return _pip("--no-deps", "--index-url", f"{_TORCH_INDEX}/{recipe.torch_build}", wanted)


def _install_the_rest(recipe: Recipe) -> str:
    extras = f"[{','.join(recipe.extras)}]" if recipe.extras else ""
    packages = [f"{_BUILD}/{PACKAGES}/{name}" for name in recipe.packages]
    return _pip(f"{_BUILD}/{recipe.source}{extras}", *packages, *recipe.requirements)


def _install_compiler() -> str:
    return "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*"


def _checks() -> Sequence[str]:
    import_all = "import hpctrain.launch.pod, torch; print(torch.__version__, torch.version.cuda)"
    return ["pip check", "hpctrain --version", shlex.join(["python3", "-c", import_all])]


def _label(recipe: Recipe) -> str:
    facts = {"title": "hpctrain", "version": __version__, "revision": recipe.revision}
    named = [f'org.opencontainers.image.{key}="{value}"' for key, value in facts.items() if value]
    return "LABEL " + " ".join(named)
