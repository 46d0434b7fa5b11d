"""Change who may read and write a run, study, pipeline or registry that exists, with all its files.

hpctrain access RUN private            nobody but you
hpctrain access RUN group              the group that its folder has may read and write
hpctrain access RUN group --group astro
hpctrain access runs public            all runs in a folder, and those that start there later: everybody may read
hpctrain access RUN                    say who may

Links are not followed. If something in the folder belongs to another user, nothing is changed. For new runs set
launch.access in the profile, or access in the site file.
"""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path

from hpctrain.access import GROUP, MARK, PRIVATE, UMASKS, access_of, group_name, write_mark
from hpctrain.access_tree import Changed, change_tree
from hpctrain.errors import HpctrainError, Problem, ProfileError, SiteError
from hpctrain.launch.present import as_typed
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import is_run

_MEANINGS = {
    "private": "nobody but the owner may read it",
    "group": "the group may read and write it",
    "public": "everybody may read it",
    None: "the umask of who writes decides",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain access``."""
    parser.add_argument(
        "what", nargs="+", metavar="FOLDER|RUN", help="run, study, pipeline, registry, or folder of runs; then the mode"
    )
    parser.add_argument("--group", metavar="GROUP", help="with group: the POSIX group (default: that of the folder)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Change or show the permissions of each folder; return the exit code of the last one that failed, or 0."""
    *names, last = arguments.what
    access = last if last in UMASKS else None
    if access is None:
        names.append(last)
    if not names:
        raise _wrong("", f"which folder or run? hpctrain access RUN {last}")
    if arguments.group is not None and access != GROUP:
        raise _wrong("--group", f"has a meaning only with group: hpctrain access {names[0]} group --group GROUP")
    folders = [_folder_of(name, arguments.runs_dir) for name in names]
    code = 0
    for folder in folders:
        if access is None:
            print(_described(folder))
            continue
        try:
            print(_said(folder, access, _change(folder, access, arguments.group)))
        except HpctrainError as error:
            if len(folders) == 1:
                raise
            print(error)
            code = error.exit_code
    return code


def _wrong(where: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(where, message)])


def _folder_of(name: str, runs_dir: Path) -> Path:
    """Return the folder that a user means; of one time through a pipeline the folder of the pipeline.

    The results of the stages lie beside the times through it, in the same folder. A folder with anything else in it is
    refused: a project, or /tmp, must not be changed because there is a run in it.
    """
    path = Path(name).absolute()
    if not path.is_dir():
        return find_run(name, runs_dir).path.absolute()
    if (found := _ours(path) or (path if _is_registry(path) else None)) is not None:
        return found
    if not (others := _others_in(path)):
        return path
    raise _wrong(name, f"is neither a run, study, pipeline or registry, nor a folder of runs alone: it has {others}")


def _ours(path: Path) -> Path | None:
    """Return the folder of the run, study or pipeline that `path` is; None if it is none.

    A folder with a profile or a study file in it may be a user's own; one that hpctrain has made holds more.
    """
    if (path / "pipeline.yaml").is_file() and (path / "pipeline.json").is_file():
        return path.parent
    if (path / "store").is_dir() and any(path.glob("*/pipeline.json")):
        return path
    is_study = (path / "study.yaml").is_file() and (path / "study.json").is_file()
    is_nested = (path / "nested.json").is_file()
    is_made = is_run(path) and (path / "attempts").is_dir() and (path / "checkpoints").is_dir()
    return path if is_study or is_nested or is_made else None


def _others_in(path: Path) -> str:
    """Return what a folder holds beside runs and studies, or folders of them; empty if nothing else."""
    num_ours = 0
    for entry in sorted(path.iterdir()):
        if entry.name == MARK:
            continue
        if entry.is_symlink() or not entry.is_dir():
            return entry.name
        for each in [entry] if _ours(entry) == entry else sorted(entry.iterdir()):
            if each.is_symlink():  # such as latest
                continue
            if not each.is_dir() or _ours(each) != each:
                return f"{entry.name}/{each.name}"
            num_ours += 1
    return "" if num_ours else "no run in it"


def _is_registry(path: Path) -> bool:
    return (path / "audit.jsonl").is_file() and (path / "models").is_dir()


def _change(folder: Path, access: str, group: str | None) -> Changed:
    if _is_registry(folder):
        from hpctrain.registry.folder import Registry
        from hpctrain.registry.policy import read_policy
        from hpctrain.registry.sharing import share

        registry = Registry(folder)
        policy = read_policy(registry)
        if policy.access not in (None, access) or (group and policy.group not in (None, group)):
            said = f"access: {policy.access}" + (f", group: {policy.group}" if policy.group else "")
            raise SiteError(f"{registry.policy}: says {said}; change it there first")
        return share(registry, access, group or policy.group)
    if access == PRIVATE:
        write_mark(folder, access)
        return change_tree(folder, access)
    changed = change_tree(folder, access, group)
    write_mark(folder, access)
    return changed


def _said(folder: Path, access: str, changed: Changed) -> str:
    lines = [f"{as_typed(folder)}: {access}, {_MEANINGS[access]}; {changed.count} files and folders"]
    if access == GROUP:
        lines.append(f"  group {group_name(folder.stat().st_gid)}")
    if changed.left:
        lines.append(f"  not changed, because they have another name elsewhere: {', '.join(changed.left[:10])}")
    if access != PRIVATE and (closed := _closed_parent(folder)):
        lines.append(f"  note: {closed} has mode {stat.S_IMODE(closed.stat().st_mode):o}; others may not pass it")
    return "\n".join(lines)


def _closed_parent(folder: Path) -> Path | None:
    group = folder.stat().st_gid
    for parent in folder.parents:
        facts = parent.stat()
        if not (facts.st_mode & stat.S_IXOTH or (facts.st_mode & stat.S_IXGRP and facts.st_gid == group)):
            return parent
    return None


def _described(folder: Path) -> str:
    facts = os.stat(folder)
    access = access_of(folder)
    mode = f"mode {stat.S_IMODE(facts.st_mode):o}, group {group_name(facts.st_gid)}"
    if _is_registry(folder):
        return f"{as_typed(folder)}: registry, whose folder decides: {mode}"
    return f"{as_typed(folder)}: {access or 'not set'}, {_MEANINGS[access]}; {mode}"
