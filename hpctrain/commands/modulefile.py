"""Write a module file for this installation, so that users of a cluster type `module load hpctrain`.

hpctrain modulefile                             print it for Lmod
hpctrain modulefile --format tcl                print it for Environment Modules, which Lmod reads as well
hpctrain modulefile --out /apps/modulefiles     write both into this folder of MODULEPATH
hpctrain modulefile --out /apps/modulefiles --sites /apps/hpctrain/sites     users find these site files
hpctrain modulefile --out /apps/modulefiles --commands /apps/hpctrain/bin    users get hpctrain, but no other python
hpctrain modulefile --needs python/3.12         load the module from whose Python the environment was made

The module puts the commands of this installation on PATH and sets HPCTRAIN_SITES. Jobs need no module: they start the
Python of the installation by its full path.
"""

from __future__ import annotations

import argparse
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.modulefile import COMMANDS, FORMATS, ModuleFile, file_name, is_module_name, path_problem

SOURCE = "hpctrain modulefile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain modulefile``."""
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER", help="folder of MODULEPATH to write into (default: print the text)")
    add("--format", choices=FORMATS, help="lua for Lmod, tcl for Environment Modules (default: lua; with --out both)")
    add("--prefix", metavar="FOLDER", help="the environment as users and nodes see it (default: where hpctrain is)")
    add("--sites", metavar="FOLDER", help="folder with the site files of the cluster (HPCTRAIN_SITES)")
    add(
        "--commands",
        type=Path,
        metavar="FOLDER",
        help=f"make links to {', '.join(COMMANDS)} in this folder and put it on PATH, so that users keep their python",
    )
    add("--needs", action="append", default=[], metavar="MODULE", help="a module that is loaded with it; repeatable")


def run(args: argparse.Namespace) -> int:
    """Print the module file, or write it."""
    commands = Path(args.prefix or sys.prefix) / "bin"
    if problems := _problems(args, commands):
        raise ProfileError(SOURCE, problems)
    module = ModuleFile(
        commands=str(args.commands.absolute() if args.commands else commands),
        sites=str(Path(args.sites).absolute()) if args.sites else "",
        needs=tuple(args.needs),
    )
    if args.commands:
        _link(commands, args.commands)
    if args.out is None:
        print(module.text(args.format or FORMATS[0]), end="")
        return 0
    written = [_write(args.out / file_name(kind), module.text(kind)) for kind in _formats(args)]
    if hidden := _hidden([*written, commands / COMMANDS[0], *([args.commands] if args.commands else [])]):
        print(f"note: others cannot read {', '.join(map(str, hidden))}; chmod -R a+rX FOLDER changes that")
    print(f"next: module use {args.out.absolute()}; module load {written[0].parent.name}")
    return 0


def _formats(args: argparse.Namespace) -> Sequence[str]:
    return (args.format,) if args.format else FORMATS


def _problems(args: argparse.Namespace, commands: Path) -> list[Problem]:
    problems = []
    if not (commands / COMMANDS[0]).exists():
        message = f"{commands} has no command {COMMANDS[0]}; install it there first (pip install), or name --prefix"
        problems.append(Problem("--prefix" if args.prefix else "installation", message))
    paths = {"--prefix": args.prefix, "--sites": args.sites and str(Path(args.sites).absolute())}
    paths["--commands"] = args.commands and str(args.commands.absolute())
    for option, path in paths.items():
        if path and (message := path_problem(path)):
            problems.append(Problem(f"{option} {path}", message))
    if args.sites and not Path(args.sites).is_dir():
        message = "is no folder; make it, and start with: hpctrain init site --out FOLDER"
        problems.append(Problem(f"--sites {args.sites}", message))
    for name in args.needs:
        if not is_module_name(name):
            problems.append(Problem(f"--needs {name}", "is no name of a module, such as python/3.12"))
    for path in [args.commands / name for name in COMMANDS] if args.commands else []:
        if path.exists() and not path.is_symlink():
            problems.append(
                Problem(f"--commands {args.commands}", f"{path.name} is there and is no link; name another")
            )
    return problems


def _link(commands: Path, folder: Path) -> None:
    """Make links to the commands of users in a folder; links of an earlier call are replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in COMMANDS:
            if (commands / name).exists():
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(commands.absolute() / name)
    except OSError as error:
        raise _cannot_write(error, folder) from error


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot_write(error, path) from error
    print(f"wrote {path}")
    return path


def _cannot_write(error: OSError, path: Path) -> ProfileError:
    return ProfileError(SOURCE, [Problem(str(error.filename or path), f"cannot be written: {error.strerror}")])


def _hidden(paths: Sequence[Path]) -> list[Path]:
    """Return those of some paths, and of the folders that hold them, that other users cannot read."""
    found = []
    for path in paths:
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if path.stat().st_mode & wanted != wanted:
            found.append(path)
        elif not path.parent.stat().st_mode & stat.S_IXOTH:
            found.append(path.parent)
    return list(dict.fromkeys(found))
