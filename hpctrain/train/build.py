"""Build all parts of a training run from the run directory's profile; no other module reads the whole profile."""

from __future__ import annotations

import inspect
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.distributed.group import barrier
from hpctrain.distributed.world import World
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.families.store import CARD, card_entries, load_weights, pinned_by, read_card, section_of, write_card
from hpctrain.metrics.exporters.opening import open_exporters
from hpctrain.profile.families import family_of, kind_of
from hpctrain.profile.files import matching_files
from hpctrain.profile.remote import is_remote
from hpctrain.profile.rules_rounds import why_too_many_ranks
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.data import DataSection
from hpctrain.profile.sections.model import ModelSection
from hpctrain.profile.sections.train import TrainSection
from hpctrain.rundir import RunDir
from hpctrain.samples.labels import has_any_label
from hpctrain.samples.oversample import oversampled
from hpctrain.samples.protocols import Facts, Samples
from hpctrain.samples.replay import replayed
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_split, choose_rows
from hpctrain.train.adamw import AdamW
from hpctrain.train.fit import RoundStep
from hpctrain.train.freeze import freeze
from hpctrain.train.mirroring import offering, open_uploader
from hpctrain.train.pacing import Pacer
from hpctrain.train.run import Data, Progress, Rank, Run
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule, mix, schedule_of
from hpctrain.train.step import UpdateStep
from hpctrain.train.watch import build_sampler
from hpctrain.train.zeros import find_zeros


def make_data(profile: Profile, world: World) -> None:
    """Make simulated data on rank 0 if the profile asks for them and the file is absent; all ranks wait."""
    data = profile.data
    is_there = any(is_remote(pattern) or matching_files(pattern) for pattern in data.files)
    if data.simulate is not None and world.is_main and not is_there:
        try:
            kind_of(profile).make(Path(data.files[0]), data.simulate)
        except DataError:
            if not Path(data.files[0]).is_file():  # else another trial of the same study has just made it
                raise
    barrier(world)


def open_data(profile: Profile, run: RunDir, world: World, data: DataSection | None = None) -> Data:
    """Open the samples and split them.

    Parameters
    ----------
    profile : Profile
    run : RunDir
    world : World
    data : DataSection, optional
        Data section of the profile with other files: the copies on this node.

    Raises
    ------
    DataError
        A file is missing or unfit, a side of the split is empty, or a look at some of the training rows shows that
        nothing can be learned from them. All ranks inspect the same rows, so all of them raise.
    """
    kind, section = kind_of(profile), profile.data
    samples = kind.open(data or section)
    side = assign_split(samples.target_id, section.split, samples.column)
    train_rows = np.flatnonzero(side == TRAIN).astype(np.int64)
    validation_rows = np.flatnonzero(side == VALIDATION).astype(np.int64)
    test_rows = np.flatnonzero((side == TEST) & (section.split.results == "test")).astype(np.int64)
    train_rows = replayed(samples.target_id, train_rows, section)
    train_rows = choose_rows(samples.target_id, train_rows, section.max_samples, section.split.salt)
    wanted = {"training": True, "validation": section.split.validates, "test": section.split.results == "test"}
    for name, rows in (("training", train_rows), ("validation", validation_rows), ("test", test_rows)):
        if len(rows) == 0 and wanted[name]:
            raise DataError(
                f"{', '.join(section.files)}: no {name} {kind.words.many} among {len(samples)} rows; "
                f"use more {kind.words.many} or another data.split"
            )
    inspection = kind.inspect(samples, train_rows, section)
    inspection.raise_errors(", ".join(section.files))
    blocks = None
    if samples.decoded_bytes:
        blocks = samples.blocks(train_rows)
        samples.keep_window(section.shuffle_window, world.world_size)
    model, facts = _blueprint(run, world, profile, samples, train_rows)
    samples.labels = family_of(profile).labels(model, samples)
    if samples.labels:
        train_rows = _labelled(samples, train_rows, "training", profile)
        validation_rows = _labelled(samples, validation_rows, "validation", profile)
        test_rows = _labelled(samples, test_rows, "test", profile)
    train_rows = oversampled(samples, train_rows, section)
    blocks = None if blocks is None else samples.blocks(train_rows)
    lengths = samples.lengths(train_rows) if section.sorted_batches else None
    return Data(samples, train_rows, validation_rows, blocks, model, facts, inspection, lengths, test_rows)


def _labelled(samples: Samples, rows: np.ndarray, name: str, profile: Profile) -> np.ndarray:
    """Return the rows that have a label; without any, a step would have no weight.

    Raises
    ------
    DataError
        No row has one.
    """
    kept = rows[has_any_label(samples.labels, rows)]
    if len(rows) and not len(kept):
        many = kind_of(profile).words.many
        raise DataError(
            f"{', '.join(profile.data.files)}: none of the {len(rows):,} {name} {many} has a label; see model.labels"
        )
    return kept


def _blueprint(
    run: RunDir, world: World, profile: Profile, samples: Samples, train_rows: np.ndarray
) -> tuple[ModelSection, Facts]:
    """Compute the sizes of the model once, at the first attempt; later attempts must build the same model.

    This also writes the model's card, so that any checkpoint of the run can be read as a model.
    """
    kind, section = kind_of(profile), profile.model
    if world.is_main and not (run.model / CARD).exists():
        start = None
        if profile.train.init_from is not None:
            section = section.model_copy(update=pinned_by(section, profile.train.init_from))
            start = section_of(profile.train.init_from)
        section = family_of(profile).settle(section, samples, train_rows, start)
        write_card(run.model, section, kind.facts(samples, train_rows), card_entries(profile))
    barrier(world)
    card = read_card(run.model / CARD)
    pinned = {key: card["section"][key] for key in section.pinned}
    values = {**profile.model.model_dump(mode="json"), **pinned}
    return type(section).model_validate_json(json.dumps(values)), kind.read_facts(card["facts"])


def build_network(profile: Profile, section: ModelSection, facts: Facts, device: torch.device) -> torch.nn.Module:
    """Build the network with weights that depend only on ``train.seed``.

    The start of the run loads the weights of ``train.init_from`` if there is no checkpoint; after the first checkpoint
    they are no longer read. Only ``train.keep_zeros`` reads them each time, to know which are 0.

    Raises
    ------
    CheckpointError
        The weights to start from are missing, damaged, or of another network.
    ProfileError
        ``train.freeze`` names weights that do not exist, or leaves none to train; or the network has state that no
        checkpoint would hold.
    """
    train = profile.train
    torch.manual_seed(mix(train.seed, 0x1417))
    model = family_of(profile).network(section, facts)
    _refuse_running_statistics(model)
    if train.init_from is not None and train.keep_zeros:
        load_weights(model, Path(train.init_from))
    freeze(model, train.freeze)
    if train.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    model.to(device)
    if train.compile:
        model.compile()
    return model


def _refuse_running_statistics(model: torch.nn.Module) -> None:
    """Refuse a network whose forward pass changes it: ranks would differ, and a resumed run would not be exact."""
    for name, module in model.named_modules():
        if getattr(module, "track_running_stats", False):
            message = (
                f"'{name}' is a {type(module).__name__} with running statistics, which differ between ranks and spoil "
                "an exact resume; use GroupNorm or LayerNorm, or track_running_stats=False"
            )
            raise ProfileError("the network", [Problem("model.family", message)])


def build_optimizer(model: torch.nn.Module, train: TrainSection) -> AdamW:
    """Build AdamW without weight decay for biases, norms and other vectors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        ([p for p in parameters if p.dim() >= 2], train.weight_decay),
        ([p for p in parameters if p.dim() < 2], 0.0),
    ]
    return AdamW(groups, (train.adam_beta1, train.adam_beta2), train.adam_eps)


def distribute(model: torch.nn.Module, world: World, device: torch.device) -> torch.nn.Module:
    """Wrap the network so that its gradients are summed over ranks during the backward pass."""
    if world.world_size == 1:
        return model
    names = inspect.signature(DistributedDataParallel).parameters
    no_buffer_sync = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"  # before 2.13
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **{no_buffer_sync: False},  # buffers are constants; all ranks build the same ones from the same seed
    )


def build_run(rank: Rank, profile: Profile, data: Data | None = None, schedule: Schedule | None = None) -> Run:
    """Build every part of the run on this rank, at step 0.

    Without `data` it opens the profile's own files, and without `schedule` the profile has the steps.
    """
    kind = kind_of(profile)
    data = data or open_data(profile, rank.directory, rank.world)
    schedule = schedule or schedule_of(profile, len(data.train_rows), data.blocks, data.lengths)
    sampler = build_sampler(rank, profile.monitor)
    rank.heartbeat.total_steps = schedule.total_steps
    checkpoints, uploader = None, open_uploader(rank, profile)
    if rank.metrics is not None:
        report = offering(rank.metrics.event, uploader)
        checkpoints = CheckpointWriter(rank.directory, profile.checkpoint, rank.attempt, report)
    run = Run(
        **vars(rank),
        profile=profile,
        family=family_of(profile),
        kind=kind,
        data=data,
        schedule=schedule,
        prepare=kind.preparation(profile.data.card_entries),
        augment=kind.augmentation(profile.data),
        loss_scale=LossScale(profile.train.precision, rank.device),
        progress=Progress(),
        checkpoints=checkpoints,
        uploader=uploader,
        sampler=sampler,
        pacer=Pacer(rank.world, rank.device, rank.stop, rank.heartbeat, rank.watchdog, sampler),
    )
    if run.learns_by_gradient:
        _add_network(run)
    else:
        _add_rounds(run)
    return run


def _add_network(run: Run) -> None:
    """Add the network, its optimiser, and the step that updates it."""
    train = run.profile.train
    model = build_network(run.profile, run.data.section, run.data.facts, run.device)
    optimizer = build_optimizer(model, train)
    names = {parameter: name for name, parameter in model.named_parameters()}
    if train.ema_decay is not None:
        run.averaged = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    run.model, run.optimizer = model, optimizer
    run.update = UpdateStep(
        run.world,
        run.schedule,
        train,
        distribute(model, run.world, run.device),
        optimizer,
        run.loss_scale,
        None if run.averaged is None else [run.averaged[names[p]] for p in optimizer.parameters],
        run.stop,
        run.pacer,
        run.prepare,
        run.augment,
        run.kind,
        find_zeros(optimizer.parameters) if train.keep_zeros else (),
        weight_per_sample=float(getattr(model, "weight_per_sample", 1.0)),
    )


def _add_rounds(run: Run) -> None:
    """Add the model of rounds, and the step that does one."""
    if (reason := why_too_many_ranks(run.profile, run.world.world_size)) is not None:
        raise ProfileError(str(run.directory.profile), [Problem("launch", reason)])
    torch.manual_seed(mix(run.profile.train.seed, 0x1417))
    run.model = run.family.network(run.data.section, run.data.facts)
    run.update = RoundStep(run)


def subscribe_exporters(run: Run) -> None:
    """Connect the exporters of the profile to the metrics, once the first step of this attempt is known."""
    if run.metrics is not None:
        open_exporters(run.directory, run.profile, run.metrics, run.progress.step, run.schedule.total_steps)


def num_parameters(model: Any) -> int:
    """Return the number of weights of a network, or of numbers in the state of a model that learns in rounds."""
    if isinstance(model, torch.nn.Module):
        return sum(parameter.numel() for parameter in model.parameters())
    return sum(array.size for array in model.state().values())


def device_facts(device: torch.device) -> dict[str, object]:
    """Return the name and the memory of the device on which a run trains."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"device": properties.name, "device_memory_gib": round(properties.total_memory / 2**30, 1)}
    return {"device": f"cpu ({platform.machine()}, {len(os.sched_getaffinity(0))} cores)"}
