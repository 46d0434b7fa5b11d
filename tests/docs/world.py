"""A folder in which the commands of a page run, as a reader would type them there."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py
import yaml
from families import TINY, profile_values
from forks import ForkServer
from shown import REPOSITORY

MODULES = {"hpctrain": ("hpctrain",), "hpc-submit": ("hpctrain", "submit"), "bin/hpc-submit": ("hpctrain", "submit")}
"""Module and first words of the commands that have no ``python -m`` before them."""


class World:
    """A folder with files and runs, and a way to type commands there.

    Parameters
    ----------
    folder : pathlib.Path
    server : ForkServer
        Forks a process for each command.
    """

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.folder = folder
        self._server = server
        self._made: set[Path] = set()

    def keep(self) -> None:
        """Note what is there: the next page finds this and nothing else."""
        self._made = set(self.folder.iterdir())

    def clear(self) -> None:
        """Remove what the commands of a page have left beside it."""
        for path in set(self.folder.iterdir()) - self._made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def type(self, words: list[str], code: int = 0) -> str:
        """Run a command and return what it prints; it has to end with `code`."""
        self._make_room(words)
        if words[:2] == ["python", "-m"]:
            module, arguments = words[2], words[3:]
        else:
            module, *first = MODULES[words[0]]
            arguments = [*first, *words[1:]]
        environment = {**os.environ, "COLUMNS": "100", "HOME": str(self.folder), "BROWSER": "true"}
        environment["DB_LOGIN"] = "a-password-4711"  # the one for which a page lets hpctrain look
        process = self._server.start(module, arguments, environment, self.folder)
        out, err = process.communicate()
        assert process.wait() == code, f"{' '.join(words)}\nended with {process.wait()}\n{out[-2000:]}\n{err[-3000:]}"
        assert "Traceback" not in err, err
        return out + err

    def _make_room(self, words: list[str]) -> None:
        """Remove the file that an earlier command of the page has written: a reader types one of the alternatives."""
        names = [("--out", f"{Path(word).stem}.yaml") for word in words[2:3] if words[1] == "new"]
        for option, name in [*itertools.pairwise(words), *names]:
            path = self.folder / name
            if option not in ("--out", "-o", "--apply") or not path.is_relative_to(self.folder):
                continue
            is_key = "keygen" in words
            for old in [path, *([path.with_suffix(".key"), path.with_suffix(".pub")] if is_key else [])]:
                if old not in self._made or is_key:
                    shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)

    def place(self, text: str) -> str:
        """Return a word of a table as it is typed.

        ``run:NAME`` is the path of the newest run of a name, ``model:NAME`` that of its model, and ``id:FILE.h5`` the
        identifier of the first object of a file.
        """
        what, _, name = text.rpartition(":")
        if what == "id":
            with h5py.File(self.folder / name) as file:
                return str(file["target_id"][0])
        if what not in ("run", "model"):
            return text
        run = max(path for path in self.folder.glob(f"**/runs/{name}/*") if path.is_dir())
        return str((run / "model" if what == "model" else run).relative_to(self.folder))

    def profiles(self) -> None:
        """Copy the profiles of the project."""
        folder = self.folder / "profiles"
        folder.mkdir(exist_ok=True)
        for path in (REPOSITORY / "profiles").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    def quickstart(self, **changes: object) -> None:
        """Make ``quickstart.yaml``, ``quickstart.h5`` and a finished run of the profile that ships, smaller."""
        if not (self.folder / "quickstart.yaml").exists():
            self.type(["hpctrain", "init", "quickstart"])
        smaller = {
            "launch.ranks_per_node": 1,
            "data.simulate.num_spectra": 300,
            "data.simulate.num_pixels": 200,
            "train.epochs": 12,
            "train.evaluate_every_steps": 10,
            "train.log_every_steps": 1,
            "train.warmup_steps": 5,
            "checkpoint.every_steps": 20,
            "edge.gates.min_spectra": 4,
            **changes,
        }
        sets = [word for key, value in smaller.items() for word in ("--set", f"{key}={value}")]
        self.type(["hpc-submit", "quickstart.yaml", "--cluster", "local", "--wait", *sets])

    def encode(self, run: str, out: str) -> None:
        """Write the latent vectors of the simulated spectra."""
        self.type(["hpctrain", "encode", run, "quickstart.h5", "--out", out])

    def train(self, name: str, family: str, data: str, num: int = 60, **sections: Mapping[str, object]) -> None:
        """Make the file `data`, the profile ``NAME.yaml`` and a finished run of it.

        Parameters
        ----------
        name : str
        family : str
            Entry of ``families.TINY``.
        data : str
            Name of the file; one that is there stays.
        num : int
            Number of objects of a new file.
        **sections
            Changes of the sections of the profile.
        """
        tiny = TINY[family]
        path = self.folder / data
        if not path.exists():
            tiny.tiny_file(path, num=num)
        values = {**profile_values(tiny, path), "name": name}
        for section, changes in {"launch": {"cluster": "local", "signal_lead_s": 60}, **sections}.items():
            values[section] = {**values.get(section, {}), **changes}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        self.type(["hpc-submit", f"{name}.yaml", "--cluster", "local", "--wait"])
