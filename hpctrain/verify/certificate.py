"""What two runs left behind, compared bit by bit, as a table a user can attach to a paper."""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import dataclass
from importlib import metadata

from hpctrain import __version__
from hpctrain.rundir import RunDir
from hpctrain.verify.twins import Cut

_LIBRARIES = ("torch", "numpy", "h5py", "safetensors")


@dataclass(frozen=True)
class Comparison:
    """The twins side by side.

    Parameters
    ----------
    model_sha256 : tuple of str
        Of ``model.safetensors``, undisturbed and cut.
    num_losses : int
        Logged losses, training and validation, that both runs have.
    different_losses : list of str
        ``train 17`` for each one that differs in any bit, or is in one of the runs only.
    repeated_steps : list of int
        Steps that stand more than once in the cut run's record.
    """

    model_sha256: tuple[str, str]
    num_losses: int
    different_losses: list[str]
    repeated_steps: list[int]

    @property
    def identical(self) -> bool:
        """Whether nothing at all tells the runs apart."""
        same_model = self.model_sha256[0] == self.model_sha256[1]
        return same_model and not self.different_losses and not self.repeated_steps


def compare(straight: RunDir, cut: RunDir) -> Comparison:
    """Compare the models and every logged loss of two finished runs."""
    digests = [hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest() for run in (straight, cut)]
    losses = [_losses(run) for run in (straight, cut)]
    either = sorted(losses[0].keys() | losses[1].keys())
    different = [
        f"{kind} {step}" for kind, step in either if losses[0].get((kind, step)) != losses[1].get((kind, step))
    ]
    steps = [record["step"] for record in cut.read_metrics("train")]
    repeated = sorted({step for step in steps if steps.count(step) > 1})
    return Comparison((digests[0], digests[1]), len(either), different, repeated)


def _losses(run: RunDir) -> dict[tuple[str, int], float]:
    return {(kind, record["step"]): record["loss"] for kind in ("train", "eval") for record in run.read_metrics(kind)}


def render(
    name: str, world_size: int, total_steps: int, straight: RunDir, cut: RunDir, cuts: list[Cut], found: Comparison
) -> str:
    """Return the table as Markdown.

    Parameters
    ----------
    name : str
        Of the profile.
    world_size, total_steps : int
        Shape of the runs.
    straight, cut : RunDir
        The twins.
    cuts : list of Cut
        Interruptions of the second one.
    found : Comparison
    """
    profile_digest = hashlib.sha256(straight.profile.read_bytes()).hexdigest()
    libraries = ", ".join(f"{library} {metadata.version(library)}" for library in _LIBRARIES)
    started = next((record for record in straight.read_metrics("event") if record["event"] == "started"), {})
    lines = [
        f"# Resume check of `{name}`: {'identical' if found.identical else 'NOT identical'}",
        "",
        f"Two runs of one profile, {total_steps} updates on {world_size} rank(s). The first was left alone; the second "
        f"was cut {len(cuts)} times and resumed from its newest whole checkpoint each time.",
        "",
        "| | left alone | cut |",
        "|---|---|---|",
        f"| attempts | 1 | {len(cuts) + 1} |",
        f"| SHA-256 of `model.safetensors` | `{found.model_sha256[0]}` | `{found.model_sha256[1]}` |",
        f"| run directory | `{straight.path}` | `{cut.path}` |",
        "",
        f"- logged losses compared bit by bit: {found.num_losses}, different: {len(found.different_losses)}"
        + (f" ({', '.join(found.different_losses[:10])} ...)" if found.different_losses else ""),
        f"- steps that stand twice in the record: {len(found.repeated_steps)}",
        "",
        "| cut | signal | after step | exit codes | resumed from step | updates made again |",
        "|---|---|---|---|---|---|",
        *(
            f"| {number} | {item.how} | {item.at_step} | {', '.join(map(str, item.exit_codes))} "
            f"| {item.resumed_from} | {item.steps_redone} |"
            for number, item in enumerate(cuts, 1)
        ),
        "",
        "Updates made again are computed a second time from the checkpoint, with the same spectra and random numbers; "
        "their first outcome is discarded, so no spectrum counts twice.",
        "",
        f"Profile SHA-256 `{profile_digest}` · hpctrain {__version__} · {libraries} · "
        f"Python {platform.python_version()} · {started.get('device', 'unknown device')} · "
        f"{platform.node()} · {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        "",
    ]
    return "\n".join(lines)
