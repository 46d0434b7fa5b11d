"""Make a network smaller in rounds, and fine-tune it after each round.

::

    <work folder>/
      plan.json            the plan; another plan removes the rounds and starts again
      round-1/pruned/      model folder
      round-1/run/         run directory of its fine-tuning
      round-2/...
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.edge.finetune import finetune, finetune_profile
from hpctrain.edge.importance import unit_importance
from hpctrain.edge.sample import Sample
from hpctrain.edge.slim import slim
from hpctrain.edge.sparsify import zero_smallest, zero_two_of_four, zeros
from hpctrain.families.spectral_vae.choices import CONVOLUTIONAL
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.families.store import CARD, load_model, save_model
from hpctrain.profile.schema import Profile
from hpctrain.rundir import file_digest, read_json, write_json
from hpctrain.samples.split import TRAIN, assign_split

STRUCTURED, UNSTRUCTURED, TWO_OF_FOUR = "structured", "unstructured", "2:4"
METHODS = (STRUCTURED, UNSTRUCTURED, TWO_OF_FOUR)

_OF_THE_SHAPE = ("format", "version", "family", "section", "facts", "weights")
"""Entries of a card that are written again with each model."""


@dataclass(frozen=True)
class PrunePlan:
    """How much is removed, and how.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    share : float
        Share of the filters and units (structured), or of the weights, that is removed from each layer.
    rounds : int
    steps : int
        Steps of fine-tuning after each round.
    """

    method: str
    share: float
    rounds: int
    steps: int

    @property
    def name(self) -> str:
        return "2of4" if self.method == TWO_OF_FOUR else f"{self.method}-{round(100 * self.share)}"

    def kept(self, number: int) -> float:
        """Return the share that is left after a number of rounds; each round removes the same share of the rest.

        References
        ----------
        .. [1] Han et al. 2015, arXiv:1506.02626; Renda et al. 2020, arXiv:2003.02389: iterative pruning at a constant
           rate.
        """
        return (1.0 - self.share) ** (number / self.rounds)


def card_extra(card: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a card that a changed model takes over."""
    return {name: value for name, value in card.items() if name not in _OF_THE_SHAPE}


def prune(
    source: Path,
    profile: Profile,
    plan: PrunePlan,
    sample: Sample,
    calibration: np.ndarray,
    work: Path,
    say: Callable[[str], None],
) -> tuple[Path, dict[str, Any]]:
    """Prune and fine-tune in rounds.

    Parameters
    ----------
    source : Path
        Run directory or model folder.
    profile : Profile
        Profile of the run.
    plan : PrunePlan
    sample : Sample
    calibration : ndarray of int64
        Training rows on which the importance of filters is measured.
    work : Path
        Folder of the rounds; complete rounds are not repeated.
    say : callable
        Is called with a line about each round.

    Returns
    -------
    folder : Path
        Model folder of the result.
    facts : dict
        For ``bundle.json``: method, shares, number of weights before and after, ...
    """
    model, card = load_model(source)
    _keep_or_clear(work, profile, plan, card, calibration, say)
    original = SpectralVAESection.model_validate(card["section"], strict=False)
    num_before = sum(weight.numel() for weight in model.parameters())
    trained = np.flatnonzero(assign_split(sample.train.target_id, profile.data.split, sample.train.column) == TRAIN)
    num_train = min(len(trained), profile.data.max_spectra or len(trained))
    folder, skipped = source, []
    for number in range(1, plan.rounds + 1):
        here = work / f"round-{number}"
        pruned = here / "pruned"
        if not (pruned / CARD).is_file():
            skipped = _remove(folder, pruned, plan, number, original, sample, calibration)
        folder = pruned
        if plan.steps:
            model, card = load_model(pruned)
            section = SpectralVAESection.model_validate(card["section"], strict=False)
            say(
                f"round {number} of {plan.rounds}: {sum(w.numel() for w in model.parameters()):,} weights, "
                f"{plan.steps} steps of fine-tuning in {here / 'run'}"
            )
            keep_zeros = plan.method != STRUCTURED
            smaller = finetune_profile(profile, section, pruned, plan.steps, num_train, keep_zeros=keep_zeros)
            folder = finetune(here / "run", smaller, model.facts)
    return folder, _facts(plan, original, num_before, folder, skipped)


def _remove(
    source: Path,
    out: Path,
    plan: PrunePlan,
    number: int,
    original: SpectralVAESection,
    sample: Sample,
    calibration: np.ndarray,
) -> list[str]:
    """Write the model of a round before its fine-tuning; return the layers that 2:4 has left out."""
    model, card = load_model(source)
    section, skipped = SpectralVAESection.model_validate(card["section"], strict=False), []
    if plan.method == STRUCTURED:
        importance = unit_importance(model, card, sample.train, calibration)
        model, section = slim(model, section, original, importance, plan.kept(number))
    elif plan.method == UNSTRUCTURED:
        zero_smallest(model, 1.0 - plan.kept(number))
    else:
        _, skipped = zero_two_of_four(model)
    save_model(out, model, section, model.facts, card_extra(card))
    return skipped


def _facts(
    plan: PrunePlan, original: SpectralVAESection, num_before: int, folder: Path, skipped: list[str]
) -> dict[str, Any]:
    """Return a record of the pruning for ``bundle.json``."""
    model, card = load_model(folder)
    facts = {
        "method": plan.method,
        "share": plan.share,
        "rounds": plan.rounds,
        "finetune_steps": plan.steps,
        "weights_before": num_before,
        "weights_after": sum(weight.numel() for weight in model.parameters()),
    }
    if plan.method == STRUCTURED:
        names = ["encoder_hidden", "decoder_hidden"]
        if original.encoder == CONVOLUTIONAL:
            names.insert(0, "encoder_channels")
        facts["layers_before"] = {name: list(getattr(original, name)) for name in names}
        facts["layers_after"] = {name: card["section"][name] for name in names}
    else:
        facts["zeros"] = zeros(model)
        if skipped:
            facts["skipped"] = skipped
    return facts


def _keep_or_clear(
    work: Path, profile: Profile, plan: PrunePlan, card: dict[str, Any], calibration: np.ndarray, say: Callable
) -> None:
    """Keep the rounds of an earlier export with the same plan; remove the rounds of any other plan."""
    wanted = {
        "plan": plan.__dict__,
        "weights": file_digest(Path(card["weights"])),
        "profile": {name: getattr(profile, name).model_dump(mode="json") for name in ("data", "train", "model")},
        "ranks": profile.launch.world_size,
        "finetune_learning_rate": profile.edge.finetune_learning_rate,
        "calibration": [int(row) for row in calibration],
    }
    there = read_json(work / "plan.json")
    if there == wanted:
        return
    if there is not None:
        say(f"{work}: made with another plan; pruning starts from the beginning")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / "plan.json", wanted)
