"""The texts of a module file, for Lmod (Lua) and for Environment Modules (Tcl): pure functions of what it sets.

References
----------
Lmod user guide, Lua modulefile functions (Texas Advanced Computing Center); Environment Modules, modulefile(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpctrain import __version__

FORMATS = ("lua", "tcl")
NAME = "hpctrain"
COMMANDS = ("hpctrain", "hpc-submit", "tensorboard")
"""What users call; an environment has more in its folder of commands, python and pip among it."""
_DESCRIPTION = "Trains models of astronomical spectra on Slurm from one YAML profile"


@dataclass(frozen=True)
class ModuleFile:
    """What a module sets.

    Parameters
    ----------
    commands : str
        Folder with the command ``hpctrain``, as the nodes see it.
    sites : str
        Folder with site files; empty for those of the user and of the installation alone.
    needs : tuple of str
        Modules that are loaded with it, such as that of the Python from which the environment was made.
    """

    commands: str
    sites: str = ""
    needs: tuple[str, ...] = ()

    def text(self, kind: str) -> str:
        """Return the text of the file for ``lua`` or ``tcl``."""
        return _lua(self) if kind == "lua" else _tcl(self)


def file_name(kind: str) -> str:
    """Return the path of a module file below a folder of ``MODULEPATH``: name and version, as in ``module load``."""
    return f"{NAME}/{__version__}{'.lua' if kind == 'lua' else ''}"


def path_problem(path: str) -> str | None:
    """Return why a path cannot be in a module file; None if it can.

    A colon separates the folders of ``PATH``; Lmod reads quotes and backslashes of files in Tcl wrongly.
    """
    if not path.startswith("/"):
        return "must be an absolute path, as users and nodes see it"
    if found := re.search(r'[:"\\\x00-\x1f\x7f]', path):
        return f"holds {found[0]!r}, which a module file cannot hold"
    return None


def is_module_name(name: str) -> bool:
    """Return whether a text can name a module, such as ``python/3.12``."""
    return re.fullmatch(r"[A-Za-z0-9_][\w.+/-]*", name) is not None


def _facts() -> dict[str, str]:
    return {"Name": NAME, "Version": __version__, "Description": _DESCRIPTION}


def _help() -> str:
    return f"{_DESCRIPTION}. Start with: hpctrain --help"


def _lua(module: ModuleFile) -> str:
    lines = [
        f"-- Written by hpctrain modulefile {__version__}, for Lmod.",
        f"help([[{_help()}]])",
        *(f"whatis({_quoted_lua(f'{key}: {value}')})" for key, value in _facts().items()),
        f"conflict({_quoted_lua(NAME)})",
        *(f"depends_on({_quoted_lua(name)})" for name in module.needs),
        f'prepend_path("PATH", {_quoted_lua(module.commands)})',
        *([f'setenv("HPCTRAIN_SITES", {_quoted_lua(module.sites)})'] if module.sites else []),
    ]
    return "\n".join(lines) + "\n"


def _tcl(module: ModuleFile) -> str:
    lines = [
        "#%Module1.0",
        f"# Written by hpctrain modulefile {__version__}, for Environment Modules.",
        f"proc ModulesHelp {{ }} {{ puts stderr {_quoted_tcl(_help())} }}",
        *(f"module-whatis {_quoted_tcl(f'{key}: {value}')}" for key, value in _facts().items()),
        f"conflict {NAME}",
        *_needs_tcl(module.needs),
        f"prepend-path PATH {_quoted_tcl(module.commands)}",
        *([f"setenv HPCTRAIN_SITES {_quoted_tcl(module.sites)}"] if module.sites else []),
    ]
    return "\n".join(lines) + "\n"


def _needs_tcl(names: tuple[str, ...]) -> list[str]:
    """Return the lines that load other modules; ``depends-on`` exists from Environment Modules 5.1 on."""
    if not names:
        return []
    load = " ".join(names)
    return [f"if {{ [llength [info commands depends-on]] }} {{ depends-on {load} }} else {{ module load {load} }}"]


def _quoted_lua(text: str) -> str:
    return f'"{text}"'  # path_problem has refused what would need more


def _quoted_tcl(text: str) -> str:
    return '"' + re.sub(r"([$\[\]{}])", r"\\\1", text) + '"'
