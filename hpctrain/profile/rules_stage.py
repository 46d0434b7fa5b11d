"""Rules of ``data.stage``, ``data.cache`` and remote files, as far as a login node can check them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.credentials.urls import without_secrets
from hpctrain.profile.families import kind_of
from hpctrain.profile.judge import Judge, plural
from hpctrain.profile.remote import how_to_install, is_http, is_remote, missing_package
from hpctrain.profile.targets import is_on_this_machine
from hpctrain.profile.variables import VARIABLE, has_variable

if TYPE_CHECKING:
    from hpctrain.profile.memory import Measurement


def check_stage(judge: Judge) -> None:
    """Judge ``data.stage`` and the remote files of ``data.files``."""
    _check_folder(judge)
    _check_remote(judge)
    data = judge.profile.data
    if data.stage_required and data.stage is None:
        judge.problem("there is nothing to require: set data.stage", "data.stage_required", "data.stage")


def _check_folder(judge: Judge) -> None:
    folder, launch = judge.profile.data.stage, judge.profile.launch
    if folder is None:
        return
    if is_remote(folder):
        judge.problem("is an address; name a folder on a disk of the compute node, such as ${TMPDIR}", "data.stage")
    elif any(not (match["name"] or match["bare"] or match["escaped"]) for match in VARIABLE.finditer(folder)):
        judge.problem("'$' without a name; write ${NAME}, or $$ for a dollar sign", "data.stage")
    elif not folder.startswith(("/", "$")):
        judge.problem(
            f"'{folder}' is relative; write an absolute path of the compute node, or begin with ${{TMPDIR}}",
            "data.stage",
        )
    elif not has_variable(folder) and is_on_this_machine(launch.cluster):
        existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            judge.problem(f"'{existing}' cannot be written to; name a folder of yours", "data.stage", "launch.cluster")


def _check_remote(judge: Judge) -> None:
    data = judge.profile.data
    remote = {f"data.files.{index}": name for index, name in enumerate(data.files) if is_remote(name)}
    for where, name in remote.items():
        package = missing_package(name)
        if package is not None:
            judge.problem(how_to_install(package), where)
    if not remote:
        return
    first, shown = next(iter(remote.items()))
    if data.stage is None:
        message = (
            f"is needed to fetch {plural(len(remote), 'remote file')}; name a folder on a disk of the compute node, "
            "such as ${TMPDIR}"
        )
        judge.problem(message, "data.stage", "data.files")
    if data.simulate is not None:
        judge.problem("spectra are simulated into a file, not an address; remove one of them", first, "data.simulate")
    how = "" if all(map(is_http, remote.values())) else ", nor are the credentials of the environment"
    judge.warn(
        f"not looked at: {plural(len(remote), 'remote file')} ({without_secrets(shown)}) would have to be downloaded. "
        f"Whether they exist, their columns, number and memory are known only in the job{how}",
        first,
    )


def check_cache(judge: Judge, measurement: Measurement, available_gib: float | None) -> None:
    """Compare the size of the data under ``data.cache: ram`` with the memory of a node, if both are known.

    Parameters
    ----------
    judge : Judge
    measurement : Measurement
    available_gib : float or None
        Memory of a node [GiB].
    """
    data = judge.profile.data
    if data.cache != "ram" or measurement.num_samples is None or available_gib is None:
        return
    held_out = round(measurement.num_samples * data.split.validation_share)
    num_samples = held_out + (measurement.num_train or measurement.num_samples - held_out)
    needed_gib = min(num_samples, measurement.num_samples) * measurement.bytes_per_sample / 2**30
    if needed_gib > available_gib:
        words = kind_of(judge.profile).words
        message = (
            f"ram would need {needed_gib:.1f} GiB for {num_samples} {words.many}, a node has {available_gib:.1f}; "
            f"use none, or fewer {words.many}"
        )
        judge.problem(message, "data.cache", "launch.memory_gib_per_node")
