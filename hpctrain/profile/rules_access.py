"""Rules of ``launch.access`` and ``launch.group``: the group must exist, and its members must come to the files."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from hpctrain.access import GROUP, PRIVATE, PUBLIC, group_name, group_number, why_no_group
from hpctrain.profile.judge import Judge
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.site import Site


def check_access(judge: Judge, site: Site | None) -> None:
    """Judge who may use the files of the run."""
    launch = judge.profile.launch
    problem, key = problem_of(launch, site)
    if problem:
        judge.problem(problem, f"launch.{key}", "launch.access", "launch.group")
        return
    access = launch.access or (site.access if site else None)
    if access is None or access == PRIVATE:
        return
    group = launch.group or (site.group if site and access == GROUP else None)
    if access == GROUP and group is None and (lonely := _group_of_one()):
        message = f"{lonely} is your own group, with nobody else in it; name one: group: astro"
        judge.warn(message, "launch.access")
    if closed := _closed_folder(Path(launch.runs_dir).absolute(), access, group_number(group)):
        judge.warn(closed, "launch.runs_dir", "launch.access")


def problem_of(launch: LaunchSection, site: Site | None) -> tuple[str, str]:
    """Return why the group of a launch section cannot be used, empty if it can, and the key that says it."""
    access = launch.access or (site.access if site else None)
    if launch.group is not None and access != GROUP:
        return f"'{launch.group}' has a meaning only with access: group; access is {access or 'not set'}", "group"
    group = launch.group or (site.group if site and access == GROUP else None)
    if group is None or not (reason := why_no_group(group)):
        return "", ""
    return (reason, "group") if launch.group else (f"{reason} (group of {site.source if site else ''})", "site")


def _group_of_one() -> str:
    """Return the name of the primary group if it is that of this user alone, as many systems make it; else nothing."""
    number = os.getegid()
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(number)
    except KeyError:
        return ""
    return group.gr_name if group.gr_name == user and not set(group.gr_mem) - {user} else ""


def _closed_folder(folder: Path, access: str, group: int | None) -> str:
    """Return which folder above the runs keeps others out; an access control list may let them in nevertheless."""
    for place in (folder, *folder.parents):
        try:
            facts = place.stat()
        except OSError:
            continue
        if facts.st_mode & stat.S_IXOTH:
            continue
        number = os.getegid() if group is None else group
        if access == PUBLIC or not (facts.st_mode & stat.S_IXGRP and facts.st_gid == number):
            who = "others" if access == PUBLIC else f"members of {group_name(number)}"
            mode = f"mode {stat.S_IMODE(facts.st_mode):o}, group {group_name(facts.st_gid)}"
            return f"{place} ({mode}) lets {who} pass only if an access control list says so"
    return ""
