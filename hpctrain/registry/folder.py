"""The folder of a registry: where it is, what it holds, and the permissions of new files in it.

The permissions of the registry's own folder decide: new folders get the same, and files the same without those to
write. So ``chgrp stars registry; chmod 2770 registry`` shares it with a group.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.files import fsync_directory
from hpctrain.profile.near import did_you_mean
from hpctrain.trail.folder import registry_folder

_NUMBER = re.compile(r"^[1-9]\d{0,8}$")
_PERMISSIONS = 0o777
_READ = 0o444


class Registry:
    """Paths of a registry.

    Parameters
    ----------
    path : str or Path
        Its folder, which need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self.policy = self.path / "registry.yaml"
        self.models = self.path / "models"
        self.data = self.path / "data"

    def __repr__(self) -> str:
        return f"Registry({str(self.path)!r})"

    def model(self, name: str) -> ModelFolder:
        """Return the folder of a model, whether it exists or not."""
        return ModelFolder(self, name)

    def names(self) -> list[str]:
        """Return the names of all models that have a version, sorted."""
        return [name for name in entries(self.models) if self.model(name).numbers()]

    def existing(self, name: str) -> ModelFolder:
        """Return the folder of a model that has versions.

        Raises
        ------
        ProfileError
            There is no such model; the message names those that there are.
        """
        model = self.model(name)
        if model.numbers():
            return model
        names = self.names()
        known = f"{did_you_mean(name, names)}; there is {', '.join(names)}" if names else ", and no other model either"
        raise ProfileError("command line", [Problem(name, f"no model of this name in {self.path}{known}")])

    @property
    def file_mode(self) -> int:
        """Permissions of a file that never changes."""
        return self._mode() & _READ

    @property
    def version_mode(self) -> int:
        """Permissions of a folder that never changes."""
        mode = self._mode()
        return mode & (_READ | 0o111 | stat.S_ISGID)

    def make(self, folder: Path) -> Path:
        """Make a folder in the registry, and the registry itself, and return it.

        Raises
        ------
        SiteError
            It cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mode = self._mode()
            for path in [*reversed(folder.relative_to(self.path).parents), folder.relative_to(self.path)]:
                self._make_one(self.path / path, mode)
        except OSError as error:
            raise SiteError(f"{folder}: cannot be made: {error.strerror}; ask the owner of the registry") from error
        return folder

    def _make_one(self, path: Path, mode: int) -> None:
        if path == self.path:
            return
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            fsync_directory(path.parent)
        # A writer that was killed between both calls has left the permissions of its umask.
        found = path.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode:
            path.chmod(mode)

    def _mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode) & (_PERMISSIONS | stat.S_ISGID)


class ModelFolder:
    """The versions and aliases of one model.

    Parameters
    ----------
    registry : Registry
    name : str
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry, self.name = registry, name
        self.path = registry.models / name
        self.versions = self.path / "versions"
        self.aliases = self.path / "aliases"

    def version(self, number: int) -> Path:
        """Return the folder of a version, whether it exists or not."""
        return self.versions / str(number)

    def numbers(self) -> list[int]:
        """Return the numbers of all versions, rising."""
        return sorted(int(name) for name in entries(self.versions) if _NUMBER.match(name))

    def alias_names(self) -> list[str]:
        """Return the names of all aliases, sorted."""
        return [name for name in entries(self.aliases) if entries(self.aliases / name)]


def registry_at(given: str | Path | None, runs_dir: str | Path = "runs") -> Registry:
    """Return the registry that a user means.

    Parameters
    ----------
    given : str, Path or None
        The folder; if None, that of the variable HPCTRAIN_REGISTRY, else ``registry`` beside the folder of runs.
    runs_dir : str or Path
    """
    return Registry(registry_folder(given, runs_dir))


def entries(folder: Path) -> list[str]:
    """Return the names in a folder that do not begin with a dot, sorted; none if there is no such folder."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SiteError(f"{folder}: cannot be read: {error.strerror}; ask the owner of the registry") from error
