"""The result as a table for a paper's appendix; its last line shows whether the table was edited."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.launch.provenance import git_state
from hpctrain.metrics.events import Started, read_event
from hpctrain.rundir import RunDir
from hpctrain.verify.compare import Part, listed
from hpctrain.verify.twins import Cut, Twins

_LIBRARIES = ("torch", "numpy", "h5py", "safetensors")
_TITLE = "# Resume check of "
_VERDICT = {True: "same", False: "**differs**"}
_SIGNATURE = "SHA-256 of this table up to here:"
_TABLE = re.compile(rf"^({_TITLE}.*?)^{_SIGNATURE} `([0-9a-f]{{64}})`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """The interruptions and the result of the comparison.

    Parameters
    ----------
    name : str
        Name of the profile.
    command : str
        The command as the user typed it.
    seed : int
        Seed of the interruptions.
    world_size, total_steps : int
        Ranks and steps of each run.
    straight, cut : RunDir
        The undisturbed and the interrupted run.
    twins : Twins
    parts : list of Part
    """

    name: str
    command: str
    seed: int
    world_size: int
    total_steps: int
    straight: RunDir
    cut: RunDir
    twins: Twins
    parts: list[Part]

    @property
    def identical(self) -> bool:
        """Whether the two runs agree in all compared parts."""
        return all(part.identical for part in self.parts)

    def made_with(self) -> dict[str, str]:
        """Return what a reader needs to repeat the check."""
        events = map(read_event, self.straight.read_metrics("event"))
        device = next((event.device for event in events if isinstance(event, Started)), None)
        code = git_state(Path(__file__).parents[2])
        commit = ""
        if code is not None:
            commit = f", commit {code['commit'][:12]}" + (" with uncommitted changes" if code["dirty"] else "")
        return {
            "command": f"`{self.command}`",
            "seed of the interruptions": str(self.seed),
            "profile": f"SHA-256 `{hashlib.sha256(self.straight.profile.read_bytes()).hexdigest()}`, resolved",
            "code": f"hpctrain {__version__}{commit}",
            "libraries": ", ".join(f"{library} {metadata.version(library)}" for library in _LIBRARIES)
            + f", Python {platform.python_version()}",
            "device": f"{device or 'unknown'}, {platform.system()}",
            "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }

    def render(self) -> str:
        """Return the table as Markdown, signed."""
        num_cuts = len(self.twins.cuts)
        ranks = "1 rank" if self.world_size == 1 else f"{self.world_size} ranks"
        lines = [
            f"{_TITLE}`{self.name}`: {'identical' if self.identical else 'NOT identical'}",
            "",
            f"Two runs of one profile, {self.total_steps} steps on {ranks}. The first was undisturbed. The second was "
            f"interrupted {num_cuts} {'time' if num_cuts == 1 else 'times'} and continued from its newest whole "
            "checkpoint each time.",
            "",
            "| compared bit by bit | undisturbed | interrupted | |",
            "|---|---|---|---|",
            f"| run directory | `{_short(self.straight.path)}` | `{_short(self.cut.path)}` | |",
            f"| attempts | 1 | {self.twins.attempts} | |",
            *(
                f"| {part.name} | {_code(part.straight)} | {_code(part.cut)} | {_VERDICT[part.identical]} |"
                for part in self.parts
            ),
            "",
        ]
        for part in self.parts:
            if part.differences:
                lines += [f"Differs in {part.name}: {listed(part.differences)}.", ""]
        lines += [
            "| | signal | after | interrupted | steps done | exit codes | continued from | steps repeated |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(number, item) for number, item in enumerate(self.twins.cuts, 1)),
            "",
            "Repeated steps are computed again from the checkpoint, with the same spectra and random numbers. Their "
            "first result is discarded, so no spectrum counts twice.",
            "",
        ]
        if self.twins.too_late:
            lines += [f"Not counted: {self.twins.too_late}, which came when the run had finished.", ""]
        lines += [
            "| made with | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in self.made_with().items()),
            "",
            "",
        ]
        return signed("\n".join(lines))

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "identical": self.identical,
            "profile": self.name,
            "world_size": self.world_size,
            "total_steps": self.total_steps,
            "runs": {"straight": str(self.straight.path), "cut": str(self.cut.path)},
            "compared": [{**asdict(part), "identical": part.identical} for part in self.parts],
            "cuts": [asdict(cut) for cut in self.twins.cuts],
            "too_late": self.twins.too_late,
            "made_with": self.made_with(),
        }


def _row(number: int, cut: Cut) -> str:
    codes = ", ".join(map(str, cut.exit_codes))
    done = "none yet" if cut.at_step is None else cut.at_step
    return (
        f"| {number} | {cut.how} | {cut.after_s:.2f} s | {cut.phase} | {done} | {codes} | step {cut.resumed_from} "
        f"| {cut.steps_redone} |"
    )


def _code(text: str) -> str:
    return f"`{text}`" if re.fullmatch("[0-9a-f]{64}", text) else text


def _short(path: Path) -> str:
    """Return the path as a user would type it in the current directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def signed(text: str) -> str:
    """Return `text` with a last line that holds its SHA-256."""
    return f"{text}{_SIGNATURE} `{_digest(text)}`\n"


def check_tables(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the title of each table in a text, and whether it is unchanged; other text does not matter."""
    for found in _TABLE.finditer(text.replace("\r\n", "\n")):
        title = found[1].partition("\n")[0].removeprefix("# ")
        yield title, _digest(found[1]) == found[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
