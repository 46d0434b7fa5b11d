"""Find every error that can be found before a job is queued, and report all of them at once.

This process checks the schema, credentials, rules between fields, files and the limits of the site. It imports no torch
and reads no spectra. A subprocess estimates the memory and inspects some hundred spectra
(:mod:`hpctrain.profile.memory`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from hpctrain.errors import HpctrainError, Problem
from hpctrain.plugins import PluginError
from hpctrain.profile.document import KeyPath, sort_problems
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.judge import Findings, Judge, as_path
from hpctrain.profile.load import Source, read_document, validate
from hpctrain.profile.memory import Measurement, MemoryNeed, measure, measurement_key
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.platforms import Platform, find_platform
from hpctrain.profile.rules_data import check_data, check_spectra
from hpctrain.profile.rules_edge import check_edge
from hpctrain.profile.rules_launch import check_launch
from hpctrain.profile.rules_monitor import check_monitor
from hpctrain.profile.rules_rounds import check_rounds_memory
from hpctrain.profile.rules_stage import check_cache
from hpctrain.profile.rules_track import check_track
from hpctrain.profile.rules_train import check_length, check_train
from hpctrain.profile.rules_validate import check_validate
from hpctrain.profile.schema import Profile
from hpctrain.profile.site import Site, list_sites, load_site
from hpctrain.profile.targets import choose_target, is_on_this_machine, sees_our_files

__all__ = ["Findings", "add_memory", "check_profile", "memory_need"]

_STAND_INS: dict[KeyPath, Any] = {("name",): "unnamed", ("data",): {"files": ["x.h5"]}, ("data", "files"): ["x.h5"]}
"""Values that replace faulty required keys while the rules check the other keys."""


def check_profile(path: Source, overrides: Sequence[str] = (), memory: bool = True, data: bool = True) -> Findings:
    """Find all problems of a profile.

    Parameters
    ----------
    path : str, Path, mapping or Profile
        The YAML file; or what it would hold, as plain values; or a profile that is loaded already. Problems of the last
        two have no line numbers.
    overrides : sequence of str
        ``a.b=value`` each.
    memory : bool
        Also estimate the memory it needs and read the size of the data. This takes about three seconds; the result is
        cached.
    data : bool
        Also look for the files of the data, and measure the memory with them. Without, they may be elsewhere.

    Returns
    -------
    Findings
        Problems and warnings; :meth:`~Findings.raise_problems` raises them as one error.

    Raises
    ------
    ProfileError
        The file cannot be read or is not YAML.
    SiteError
        The site's own file is wrong.
    """
    document = read_document(path, overrides)
    profile, faulty = validate(document)
    findings = Findings(document.source, profile)
    understood = profile or _without(document.data, faulty)
    if understood is None:
        findings.problems = sort_problems(document.problems)
        return findings
    judge = Judge(document, understood, faulty if data else {*faulty, ("data", "files")})
    site = findings.site = _find_site(judge)
    check_launch(judge, site)
    check_data(judge, files_are_here=sees_our_files(understood.launch.cluster, site))
    kind_of(understood).judge(judge)
    family_of(understood).judge(judge)
    check_train(judge)
    check_edge(judge)
    check_monitor(judge)
    check_track(judge)
    check_validate(judge)
    if (
        memory
        and data
        and profile is not None
        and not any(problem.where.startswith("model") for problem in judge.problems)
    ):
        _check_memory(judge, findings, {})
    judge.problems += document.problems
    findings.problems, findings.warnings = judge.sorted_notes()
    findings.judge = judge
    return findings


def add_memory(findings: Findings, measured: dict[str, Measurement]) -> None:
    """Add the estimate of memory and the size of the data to the findings of a check without it.

    Parameters
    ----------
    findings : Findings
        Without problems.
    measured : dict
        Measurements of earlier profiles by :func:`~hpctrain.profile.memory.measurement_key`. The tasks of an array
        mostly share one; a new measurement is added.
    """
    judge = findings.judge
    if judge is None or findings.profile is None:
        return
    _check_memory(judge, findings, measured)
    findings.problems, findings.warnings = judge.sorted_notes()


def memory_need(findings: Findings) -> MemoryNeed | None:
    """Return the memory that the profile needs on its device; None if the device or the need is unknown."""
    profile, measurement = findings.profile, findings.measurement
    if profile is None or measurement is None:
        return None
    platform = _platform_of(profile, findings.site)
    if platform is None:
        return None
    launch = profile.launch
    if platform.is_gpu and launch.gpus_per_node:
        shared_by = -(-launch.ranks_on_each_node // launch.gpus_per_node)
        return MemoryNeed(measurement, profile, platform, platform.memory_gib, shared_by)
    available = _host_memory_gib(profile, findings.site)
    return MemoryNeed(measurement, profile, platform, available, launch.ranks_on_each_node) if available else None


def _host_memory_gib(profile: Profile, site: Site | None) -> float | None:
    """Return the memory of a node that the job may use; None if neither the profile nor the site sets it."""
    launch = profile.launch
    partition = site.partition_for(launch.partition) if site else None
    available = launch.memory_gib_per_node or (partition.memory_gib if partition else None)
    if available is None and is_on_this_machine(choose_target(launch.cluster)):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return available


def _without(data: dict[str, Any], faulty: set[KeyPath]) -> Profile | None:
    """Return the profile with defaults in place of faulty values, so that the rules can check the rest."""
    data = copy.deepcopy(data)
    for path in sorted(faulty, key=len, reverse=True):
        keys = path[: next((depth for depth, key in enumerate(path) if isinstance(key, int)), len(path))]
        *around, last = keys
        target: Any = data
        for key in around:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target.pop(last, None)
            if keys in _STAND_INS:
                target[last] = _STAND_INS[keys]
    try:
        return profile_of(data)
    except (ValidationError, PluginError):
        return None


def _find_site(judge: Judge) -> Site | None:
    name = judge.profile.launch.site
    if name is None or judge.is_faulty("launch.site"):
        return None
    sites = list_sites()
    if name not in sites:
        judge.problem(f"there is no site '{name}'{did_you_mean(name, sites)}", "launch.site")
        return None
    return load_site(name)


def _platform_of(profile: Profile, site: Site | None) -> Platform | None:
    partition = site.partition_for(profile.launch.partition) if site else None
    name = profile.platform or (partition.platform if partition else None)
    return None if name is None else find_platform(name)


def _check_memory(judge: Judge, findings: Findings, measured: dict[str, Measurement]) -> None:
    key = measurement_key(judge.profile)
    try:
        measurement = findings.measurement = measured.get(key) or measure(judge.profile)
        measured[key] = measurement
    except HpctrainError as error:
        judge.warnings.append(Problem("", f"{error}; --no-memory skips the estimate"))
        return
    if measurement.data_problem and not any(as_path(problem.where)[:1] == ("data",) for problem in judge.problems):
        judge.problem(measurement.data_problem, "data.files")
    if measurement.inspection is not None:
        check_spectra(judge, measurement.inspection)
    if measurement.num_train is not None:
        check_length(judge, measurement.num_train)
    host_gib = _host_memory_gib(judge.profile, findings.site)
    check_cache(judge, measurement, host_gib)
    check_rounds_memory(judge, measurement, host_gib)
    need = memory_need(findings)
    if need is None:
        return
    if not need.fits:
        judge.problem(str(need.complaint()), "train.batch_size")
    elif need.remark():
        judge.warn(str(need.remark()), "train.batch_size")
