"""Rules of ``train`` and ``checkpoint``: values that are valid alone but do not fit together."""

from __future__ import annotations

import math
from pathlib import Path

from hpctrain.profile.families import family_of
from hpctrain.profile.judge import Judge, plural
from hpctrain.profile.length import num_steps
from hpctrain.profile.near import nearest
from hpctrain.profile.platforms import find_platform
from hpctrain.profile.remote import how_to_install, is_http, is_remote, missing_package
from hpctrain.profile.rules_rounds import check_rounds
from hpctrain.profile.rules_start import check_same_split
from hpctrain.profile.sections.train import MOST_PROFILED_STEPS
from hpctrain.rundir import all_runs, newest_called

HIGH_LEARNING_RATE = 0.03
"""Learning rate above which AdamW, which moves each weight by about this much per step, diverges or forgets."""


def check_train(judge: Judge) -> None:
    """Judge ``train`` and ``checkpoint``."""
    check_rounds(judge)
    _check_learning_rate(judge)
    _check_precision(judge)
    _check_init_from(judge)
    _check_batch(judge)
    _check_checkpoints(judge)
    _check_profile_steps(judge, judge.profile.train.max_steps)


def check_length(judge: Judge, num_train: int) -> int:
    """Judge the keys that depend on the number of training spectra, and return the number of steps of the run."""
    train = judge.profile.train
    global_batch = judge.profile.global_batch
    if num_train == 0:
        judge.problem(
            "no spectrum is left to train on; use more spectra or a smaller data.split", "data.files", "data.split"
        )
        return 0
    if family_of(judge.profile).how == "gradient" and num_train < global_batch:
        message = (
            f"the global batch is {global_batch} (batch_size x accumulation x ranks), but there are only {num_train} "
            "training spectra: every step uses some of them twice; use smaller batches or fewer ranks"
        )
        judge.warn(message, "train.batch_size", "train.accumulation", "launch.nodes", "launch.gpus_per_node")
    total = num_steps(judge.profile, num_train)
    if (train.warmup_steps or 0) >= total and train.max_steps is None:
        message = (
            f"{train.warmup_steps} is not less than the {total} steps of the whole run ({train.epochs} epochs of "
            f"{num_train} spectra in batches of {global_batch}); the learning rate would never reach its peak"
        )
        judge.problem(message, "train.warmup_steps", "train.epochs", "train.batch_size", "train.accumulation")
    if total < judge.profile.checkpoint.every_steps <= (train.max_steps or math.inf):
        message = (
            f"{judge.profile.checkpoint.every_steps} is beyond the {total} steps of the run: only the last is saved"
        )
        judge.warn(message, "checkpoint.every_steps", "train.epochs")
    if train.max_steps is None:
        _check_profile_steps(judge, total)
    return total


def _check_profile_steps(judge: Judge, total: int | None) -> None:
    """Judge which steps the profiler records; `total` is the number of steps of the run, if it is known."""
    if judge.profile.train.profile_steps is None:
        if judge.profile.train.profile_ranks != "first":
            judge.warn("has no effect without train.profile_steps", "train.profile_ranks")
        return
    first, last = judge.profile.train.profile_steps
    message = ""
    if last < first:
        message = f"the last step ({last}) is before the first ({first})"
    elif last - first >= MOST_PROFILED_STEPS:
        message = f"{last - first + 1} steps make a trace that nobody can open; record {MOST_PROFILED_STEPS} at most"
    elif total is not None and first > total:
        message = f"step {first} is beyond the {total} steps of the run, so there would be no trace"
    if message:
        judge.problem(message, "train.profile_steps")
    elif total is not None and last > total:
        judge.warn(f"step {last} is beyond the {total} steps of the run: the trace ends with it", "train.profile_steps")


def _check_learning_rate(judge: Judge) -> None:
    train = judge.profile.train
    if train.final_learning_rate > train.learning_rate:
        message = (
            f"{train.final_learning_rate:g} is above learning_rate ({train.learning_rate:g}), where the cosine starts"
        )
        judge.problem(message, "train.final_learning_rate", "train.learning_rate")
    if train.learning_rate > HIGH_LEARNING_RATE:
        judge.warn(
            f"{train.learning_rate:g} is very high for AdamW; 1e-3 is usual, 1e-4 to fine-tune", "train.learning_rate"
        )
    if train.max_steps is not None and (train.warmup_steps or 0) >= train.max_steps:
        message = (
            f"{train.warmup_steps} is not less than max_steps ({train.max_steps}); the peak would never be reached"
        )
        judge.problem(message, "train.warmup_steps", "train.max_steps")
    if train.max_steps is not None and (train.evaluate_every_steps or 0) > train.max_steps:
        message = f"{train.evaluate_every_steps} is beyond max_steps ({train.max_steps}): evaluated only at the end"
        judge.warn(message, "train.evaluate_every_steps", "train.max_steps")


def _check_precision(judge: Judge) -> None:
    train, launch = judge.profile.train, judge.profile.launch
    platform = find_platform(judge.profile.platform or "")
    on_cpu = launch.gpus_per_node == 0 or train.device == "cpu" or (platform is not None and not platform.is_gpu)
    if train.precision == "fp16" and on_cpu:
        message = "fp16 needs a GPU, and this run has none; use fp32, or bf16"
        judge.problem(message, "train.precision", "launch.gpus_per_node", "train.device", "platform")
    elif train.precision == "bf16" and not on_cpu and platform is not None and not platform.has_bf16:
        judge.problem(f"{platform.title} cannot compute in bf16; use fp16 or fp32", "train.precision", "platform")


def _check_batch(judge: Judge) -> None:
    """Judge whether the given ones of batch size, accumulation and global batch fit together."""
    train, shape = judge.profile.train, judge.profile.update_shape
    if train.global_batch is None:
        if not shape.is_settled:
            message = (
                "auto needs train.global_batch, the number of spectra per step, such as 256; hpctrain never changes it"
            )
            judge.problem(message, "train.batch_size")
        return
    if not shape.is_even:
        ranks, unit = plural(shape.ranks, "rank"), shape.unit
        shares = ranks if unit == shape.ranks else f"{ranks} x batch_size {shape.micro_batch}"
        lower, upper = shape.global_batch // unit * unit, -(-shape.global_batch // unit) * unit
        near = f"{lower} or {upper}" if lower else f"{upper}"
        judge.problem(
            f"{train.global_batch} cannot be divided among {shares}; use {near}",
            "train.global_batch",
            "train.batch_size",
        )
    elif train.accumulation not in (1, shape.accumulation) and shape.is_settled:
        message = f"{train.accumulation} is not used: global_batch {train.global_batch} makes it {shape.accumulation}"
        judge.warn(message, "train.accumulation", "train.global_batch")


def _check_init_from(judge: Judge) -> None:
    name = judge.profile.train.init_from
    if name is None:
        if judge.profile.train.keep_zeros:
            message = "keeps the zeros of a pruned network, but there is none to start from; set train.init_from"
            judge.problem(message, "train.keep_zeros", "train.init_from")
        return
    path = Path(name)
    runs_dir = Path(judge.profile.launch.runs_dir)
    if not path.exists():
        if (found := newest_called(name, runs_dir)) is not None:
            check_same_split(judge, found.path, "train.init_from")
            return
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, names)
        run = nearest(name, {run.name for run in all_runs(runs_dir)})
        hint = "; name a run directory, a run of launch.runs_dir, a bundle or a model.safetensors; null: from scratch"
        if near or run:
            hint = f"; did you mean '{path.parent / near if near else run}'?"
        judge.problem(f"'{name}' does not exist{hint}", "train.init_from")
    elif path.is_dir() and not any((path / part).exists() for part in ("model", "checkpoints", "model.safetensors")):
        judge.problem(f"'{name}' is not a run directory: it has no model and no checkpoints", "train.init_from")
    else:
        check_same_split(judge, path, "train.init_from")


def _check_checkpoints(judge: Judge) -> None:
    checkpoint, train = judge.profile.checkpoint, judge.profile.train
    if checkpoint.mirror is not None and is_remote(checkpoint.mirror):
        if (package := missing_package(checkpoint.mirror)) is not None:
            judge.problem(how_to_install(package), "checkpoint.mirror")
        elif is_http(checkpoint.mirror):
            judge.problem("a web server takes no files; use s3://, gs://, abfs:// or a folder", "checkpoint.mirror")
    kept, every = checkpoint.keep_every_steps, checkpoint.every_steps
    if kept is not None and kept % every:
        message = f"{kept} is not a multiple of every_steps ({every}); use {-(-kept // every) * every}"
        judge.problem(message, "checkpoint.keep_every_steps", "checkpoint.every_steps")
    if train.max_steps is not None and checkpoint.every_steps > train.max_steps:
        message = f"{checkpoint.every_steps} is beyond max_steps ({train.max_steps}): only the last step is saved"
        judge.warn(message, "checkpoint.every_steps", "train.max_steps")
