"""Rules for a family that learns in rounds: what of ``train`` and ``launch`` cannot apply to it."""

from __future__ import annotations

from hpctrain.profile.families import family_of, kind_of
from hpctrain.profile.judge import Judge
from hpctrain.profile.memory import Measurement
from hpctrain.profile.schema import Profile

FOR_NETWORKS = (
    "accumulation",
    "global_batch",
    "learning_rate",
    "warmup_steps",
    "final_learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_eps",
    "clip_norm",
    "precision",
    "gradient_checkpointing",
    "compile",
    "ema_decay",
    "freeze",
    "keep_zeros",
    "epochs",
    "profile_steps",
    "profile_ranks",
)
"""Keys of ``train`` that only networks read."""


def why_too_many_ranks(profile: Profile, ranks: int) -> str | None:
    """Return why so many ranks cannot do a round together, or None if they can."""
    family = family_of(profile)
    most = family.most_ranks(profile.model)
    if ranks <= most:
        return None
    if most == 1:
        return f"{ranks} ranks, but {family.name} learns in one process here; use 1 node and 1 rank"
    return f"{ranks} ranks, but a round of this model has work for {most}; use {most} ranks or fewer"


def check_rounds_memory(judge: Judge, measurement: Measurement, host_gib: float | None) -> None:
    """Warn of training samples that probably do not fit into the memory of a node, and say how many do.

    Parameters
    ----------
    judge : Judge
    measurement : Measurement
    host_gib : float or None
        Memory of a node [GiB]; None if it is unknown.
    """
    profile, family = judge.profile, family_of(judge.profile)
    if family.how != "rounds" or host_gib is None or measurement.num_train is None:
        return
    launch = profile.launch
    each = family.bytes_per_sample(profile.model, measurement.bytes_per_sample, launch.cpus_per_rank)
    if each is None:
        return
    ranks = launch.ranks_on_each_node
    needed_gib = ranks * measurement.num_train * each / 2**30
    if needed_gib <= host_gib:
        return
    fits = int(host_gib * 2**30 / (ranks * each))
    many, key = kind_of(profile).words.many, kind_of(profile).bounded_by
    message = (
        f"{measurement.num_train:,} training {many} need about {needed_gib:.1f} GiB on a node ({each} bytes for each, "
        f"{ranks} ranks), which has {host_gib:g} GiB; about {fits:,} fit" + (f": set {key}: {fits}" if key else "")
    )
    judge.warn(message, *([key] if key else []), "launch.memory_gib_per_node")


def check_rounds(judge: Judge) -> None:
    """Judge the profile of a family that learns in rounds; do nothing for a network."""
    family = family_of(judge.profile)
    if family.how != "rounds":
        return
    if (reason := why_too_many_ranks(judge.profile, judge.profile.launch.world_size)) is not None:
        judge.problem(reason, "launch.ranks_per_node", "launch.nodes", "launch.gpus_per_node")
    if not judge.profile.update_shape.is_settled:
        judge.problem("auto is for networks; give a number of samples that are read at a time", "train.batch_size")
    if judge.profile.data.oversample is not None:
        message = f"repeats samples, and {family.name} learns in rounds; give classes or objects weights instead"
        judge.problem(message, "data.oversample")
    for key in FOR_NETWORKS:
        if judge.is_written(f"train.{key}"):
            judge.warn(f"has no effect: {family.name} learns in rounds", f"train.{key}")
