"""Which runs something else needs: a registered version, a profile, a study or a pipeline that names them.

Run ids are unique, so a file that contains the id of a run means this run, by whatever path.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpctrain.registry.folder import Registry
from hpctrain.registry.version import read_version
from hpctrain.rundir import RunDir

_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,}(?:-\d+)?")
"""The last number is that of a task of an array."""
_BY_NAME = re.compile(r"([^\s\"'/]+)/latest\b")
_START = re.compile(r"^\s*(?:init_from|start):\s*[\"']?([^\s\"'#]+)", re.MULTILINE)
_NOT_NEEDS = ("provenance.json", "job.json")
"""Files of a run that say where it comes from; the run works without what they name."""
_PRUNED = {
    "checkpoints", "logs", "tensorboard", "figures", "results", "monitor", "heartbeat", "attempts", "model", "track"
}  # fmt: skip
_LARGEST_BYTES = 1 << 22
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass
class Needs:
    """What is needed, and by whom.

    Parameters
    ----------
    versions : dict
        Real path of a run to the registered version that was made from it.
    ids : dict
        Run id to the files that name it.
    names : dict
        Name of runs, of which a file means the newest, to these files.
    paths : dict
        Real path of weights that a training starts with, to the files that name them.
    texts : dict
        File of a pipeline to its text, for :meth:`mentions`.
    """

    versions: dict[str, str] = field(default_factory=dict)
    ids: dict[str, set[Path]] = field(default_factory=dict)
    names: dict[str, set[Path]] = field(default_factory=dict)
    paths: dict[str, set[Path]] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)

    def version_of(self, run: RunDir) -> str | None:
        """Return the registered version that was made from a run, or None."""
        return self.versions.get(os.path.realpath(run.path))

    def user_of(self, run: RunDir) -> Path | None:
        """Return a file outside a run that names it, or None."""
        real = os.path.realpath(run.path)
        named = self.ids.get(run.run_id, set()) | self.names.get(run.name, set())
        named |= self.paths.get(real, set())
        inside = real + os.sep
        for start in itertools.islice(self._starts, bisect.bisect_left(self._starts, inside), None):
            if not start.startswith(inside):
                break
            named |= self.paths[start]
        outside = [path for path in sorted(named) if not os.path.realpath(path).startswith(real + os.sep)]
        return outside[0] if outside else None

    @functools.cached_property
    def _starts(self) -> list[str]:
        """The paths of weights, sorted once all files are read, so that a run need not look at those of all others."""
        return sorted(self.paths)

    def mentions(self, text: str, outside: Path) -> Path | None:
        """Return a file that contains a text and does not lie in the folder `outside`, or None."""
        found = (path for path, content in self.texts.items() if text in content and outside not in path.parents)
        return next(found, None)


def read_needs(runs_dir: Path, pipelines: Path, registry: Registry) -> Needs:
    """Return which runs something below or beside the folder of runs needs.

    Parameters
    ----------
    runs_dir, pipelines : Path
        All profiles, studies and records below them are read; and the YAML files beside them, one folder deep.
    registry : Registry

    Raises
    ------
    CheckpointError
        A manifest of the registry is damaged, so it cannot be known.
    """
    needs = Needs()
    for model in map(registry.model, registry.names()):
        for version in (read_version(model, number) for number in model.numbers()):
            needs.versions[os.path.realpath(version.facts["run"]["path"])] = str(version)
    beside = [path for pattern in ("*.y*ml", "*/*.y*ml") for path in runs_dir.absolute().parent.glob(pattern)]
    for path in {*_files_below(runs_dir), *_files_below(pipelines), *_files_below(registry.path), *beside}:
        _take(path, needs)
    return needs


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder.absolute()):
        # The store of a pipeline keeps data below out/; what its stages need is in stage.json above.
        folders[:] = [name for name in folders if name not in _PRUNED and name != "out"]
        yield from (Path(root, name) for name in names if name.endswith(_SUFFIXES) and name not in _NOT_NEEDS)


def _is_set(start: str) -> bool:
    """Return whether the value of a key is more than null, which each profile of a run holds."""
    return start not in ("null", "~")


def _take(path: Path, needs: Needs) -> None:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    needs.texts[path] = text
    for run_id in _RUN_ID.findall(text):
        needs.ids.setdefault(run_id, set()).add(path)
    for name in _BY_NAME.findall(text):
        needs.names.setdefault(name, set()).add(path)
    for start in filter(_is_set, _START.findall(text)):
        needs.names.setdefault(start, set()).add(path)
        for base in (Path.cwd(), path.parent):
            needs.paths.setdefault(os.path.realpath(base / start), set()).add(path)
