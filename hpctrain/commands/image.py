"""Write what builds a container image with hpctrain: a folder with a Dockerfile and all that it copies.

hpctrain image                                       CUDA as torch's wheel on PyPI has it, object stores
hpctrain image --cuda none                           the CPU build of torch: small
hpctrain image --extras remote,mlflow,filters        with MLflow's client and HDF5 plugins
hpctrain image --package ../my_network --package gcsfs     with a package of yours, and one from the index
hpctrain image --root                                for SageMaker, whose folders belong to root
hpctrain image --apptainer                           an Apptainer definition too

Then: docker build --platform linux/amd64 --tag NAME FOLDER. `hpctrain docs images` has the platforms that run it.
The image has the hpctrain that runs this command, and the versions of constraints.txt.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from hpctrain.errors import Problem, ProfileError

_BASE = re.compile(r"[a-z0-9][\w./:@-]*")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?([<>=!~]=?[\w.*]+(,[<>=!~]=?[\w.*]+)*)?")
_OURS = "# Written by hpctrain image "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain image``."""
    add = parser.add_argument
    add("--out", type=Path, default=Path("image"), metavar="FOLDER", help="folder to write (default: image)")
    add("--apptainer", action="store_true", help="write hpctrain.def for Apptainer too")
    add(
        "--base", default="python:3.12-slim", metavar="IMAGE", help="image with python3 and venv (default: %(default)s)"
    )
    add(
        "--cuda",
        default="pypi",
        metavar="VERSION",
        help="CUDA of torch, such as 12.6; none for the CPU build; default: that of torch's wheel on PyPI",
    )
    add("--platform", choices=("linux/amd64", "linux/arm64"), default="linux/amd64", help="default: %(default)s")
    add("--extras", default="remote", metavar="NAMES", help="extras of hpctrain, with commas (default: %(default)s)")
    add(
        "--package",
        action="append",
        default=[],
        metavar="PATH_OR_NAME",
        help="your own package (a folder with pyproject.toml, or a wheel), or the name of one in the index; repeatable",
    )
    add("--compiler", action="store_true", help="add a C compiler, which train.compile needs")
    add("--root", action="store_true", help="run as root; default: a user without rights, number 1000")


def run(args: argparse.Namespace) -> int:
    """Write the folder."""
    from hpctrain.launch.image import recipe as texts
    from hpctrain.launch.image.sources import checkout, copy_package, write_hpctrain
    from hpctrain.launch.provenance import git_state
    from hpctrain.shipped import shipped

    if problems := _problems(args):
        raise ProfileError("hpctrain image", problems)
    constraints = shipped("constraints.txt").read_text(encoding="utf-8")
    paths = [Path(name) for name in args.package if _is_path(name)]
    root = checkout()
    git = git_state(root) if root else None
    out: Path = args.out
    try:
        _empty(out)
        recipe = texts.Recipe(
            source=write_hpctrain(out),
            torch=texts.torch_of(constraints),
            base=args.base,
            cuda=args.cuda,
            platform=args.platform,
            extras=tuple(_extras(args)),
            packages=tuple(copy_package(path, out) for path in paths),
            requirements=tuple(name for name in args.package if not _is_path(name)),
            has_compiler=args.compiler,
            is_root=args.root,
            revision=f"{git['commit']}{'-dirty' if git['dirty'] else ''}" if git else "",
        )
        files = {
            texts.DOCKERFILE: texts.dockerfile(recipe),
            texts.IGNORE: texts.dockerignore(recipe),
            texts.CONSTRAINTS: constraints,
            **({texts.DEFINITION: texts.definition(recipe)} if args.apptainer else {}),
        }
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
            print(f"wrote {out / name}")
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise ProfileError("hpctrain image", [Problem(str(error.filename or out), message)]) from error
    print(f"next: docker build --platform {recipe.platform} --tag hpctrain {out}")
    if args.apptainer:
        print(f"      or: cd {out} && apptainer build hpctrain.sif {texts.DEFINITION}")
    return 0


def _problems(args: argparse.Namespace) -> list[Problem]:
    from hpctrain.launch.image.sources import known_extras, package_problem
    from hpctrain.profile.near import did_you_mean

    problems, known = [], known_extras()
    for name in _extras(args):
        if name not in known:
            problems.append(Problem("--extras", f"there is no extra '{name}'{did_you_mean(name, known)}"))
    if not re.fullmatch(r"pypi|none|\d+\.\d+", args.cuda):
        problems.append(Problem("--cuda", f"'{args.cuda}' is no version such as 12.6, nor none, nor pypi"))
    if not _BASE.fullmatch(args.base):
        problems.append(Problem("--base", f"'{args.base}' is no name of an image, such as python:3.12-slim"))
    taken: set[str] = set()
    for name in args.package:
        if _is_path(name):
            if message := package_problem(Path(name)):
                problems.append(Problem(f"--package {name}", message))
            folder = Path(name).resolve().name
            if folder in taken:
                problems.append(Problem(f"--package {name}", f"another package is in a folder named {folder}, too"))
            taken.add(folder)
        elif not _REQUIREMENT.fullmatch(name):
            problems.append(
                Problem(f"--package {name}", "is neither a path nor a name such as gcsfs or 'gcsfs>=2024.2'")
            )
    if args.out.exists() and not _is_ours(args.out):
        problems.append(Problem(f"--out {args.out}", "exists, and hpctrain image has not written it; name another one"))
    return problems


def _extras(args: argparse.Namespace) -> list[str]:
    return sorted({name.strip() for name in args.extras.split(",") if name.strip()})


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith(".") or name.endswith(".whl") or Path(name).exists()


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is empty, or was written by this command."""
    if not folder.is_dir():
        return False
    try:
        return not any(folder.iterdir()) or (folder / "Dockerfile").read_text(encoding="utf-8").startswith(_OURS)
    except OSError:
        return False


def _empty(folder: Path) -> None:
    """Make a folder, or remove what an earlier call has written into it."""
    from hpctrain.launch.image import recipe
    from hpctrain.launch.image.sources import SOURCE

    folder.mkdir(parents=True, exist_ok=True)
    for name in (SOURCE, recipe.PACKAGES):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (*folder.glob("hpctrain-*.whl"), *(folder / name for name in (recipe.DEFINITION, recipe.IGNORE))):
        path.unlink(missing_ok=True)
