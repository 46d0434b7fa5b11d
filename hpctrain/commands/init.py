"""Copy a profile, an example site file or the job script into the current folder, to start from.

hpctrain init                    list the files that can be copied
hpctrain init quickstart         write quickstart.yaml, and schema.json for editors
hpctrain init hpc --out mine     write into the folder mine
hpctrain init pipeline           write pipeline.yaml, and the profiles that it trains
hpctrain init site               write site.yaml, to describe a cluster; put it into ~/.config/hpctrain/sites
hpctrain init job-script         write train_hpc.sh, for sbatch by hand

init never overwrites an existing file.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.shipped import shipped

OTHERS = {
    "site": ("slurm/sites/example.yaml", "site.yaml", "An example of a site file: partitions, limits, modules"),
    "job-script": ("slurm/train_hpc.sh", "train_hpc.sh", "The job script, to read and to submit by hand with sbatch"),
}
"""Files to copy besides profiles: the shipped file, the name of the copy, and a description."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain init``."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="file to copy; without it, list the files")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="folder to write to (default: here)")


def run(args: argparse.Namespace) -> int:
    """List the shipped files, or copy one."""
    if args.name is None:
        for name in _names():
            print(f"{name:<12}  {OTHERS[name][2] if name in OTHERS else _first_sentence(_source(name)[0])}")
        print("\nhpctrain init NAME copies one into the current folder.")
        return 0
    if args.name not in _names():
        message = f"there is no '{args.name}' to copy; there are {', '.join(_names())}"
        raise ProfileError("hpctrain init", [Problem("NAME", message)])
    files = _files(args.name)
    existing = [name for name in files if (args.out / name).exists() and name != "schema.json"]
    if existing:
        problems = [Problem(str(args.out / name), "exists and is not overwritten; see --out") for name in existing]
        raise ProfileError("hpctrain init", problems)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, source in files.items():
            if (args.out / name).exists():  # this can only be the schema
                continue
            (args.out / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
            print(f"wrote {args.out / name}")
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise ProfileError("hpctrain init", [Problem(str(error.filename or args.out), message)]) from error
    return 0


def _names() -> list[str]:
    return [*sorted(path.stem for path in shipped("profiles").glob("*.yaml")), *OTHERS]


def _source(name: str) -> tuple[Path, str]:
    """Return the shipped file and the name of its copy."""
    source, copy, *_ = OTHERS.get(name, (f"profiles/{name}.yaml", f"{name}.yaml"))
    return shipped(source), copy


def _files(name: str) -> dict[str, Path]:
    """Map the names of the copies to the shipped files: what was asked for, the profiles that it names, the schema."""
    source, copy = _source(name)
    files = {copy: source}
    if name not in OTHERS:
        text = source.read_text(encoding="utf-8")
        for named in re.findall(r"^(?:extends|base|    profile): *(\S+)", text, flags=re.MULTILINE):
            files |= _files(Path(named).stem)
        files["schema.json"] = shipped("profiles/schema.json")
    return files


def _first_sentence(path: Path) -> str:
    """Return the first sentence of the comment at the top of a profile."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if text and not text.startswith("yaml-language-server"):
            return text.split(". ")[0].rstrip(".:")
    return ""
