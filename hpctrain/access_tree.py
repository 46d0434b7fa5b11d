"""Change who may read and write a whole folder that exists, without following a link out of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpctrain.access import GROUP, PRIVATE, PUBLIC, group_name, group_number, not_a_member
from hpctrain.errors import SiteError

_PROVENANCE = re.compile(r"provenance(-\d+)?\.json")
_MOST_NAMES = 10


@dataclass
class Changed:
    """What :func:`change_tree` returns.

    Parameters
    ----------
    count : int
        Number of files and folders.
    left : list of str
        Files with another name (hard links), maybe outside of the folder; they were not changed.
    """

    count: int = 0
    left: list[str] = field(default_factory=list)


def change_tree(
    top: Path, access: str, group: str | None = None, *, keeps_provenance: bool = False, only_mine: bool = False
) -> Changed:
    """Give all files and folders below `top`, and `top` itself, the permissions of `access`.

    The group, and with ``public`` everybody, may read and run what the owner may; only a group may also write it. So a
    file that nobody may write stays one. ``provenance.json`` holds uncommitted changes of code, so ``public`` opens it
    only if others can read it already.

    Parameters
    ----------
    top : Path
    access : str
    group : str, optional
        With ``group``: the POSIX group; without it, that of `top`.
    keeps_provenance : bool
        Never open ``provenance.json``.
    only_mine : bool
        Change what belongs to this user, and nothing else; without it, a file of another user is an error.

    Raises
    ------
    SiteError
        Something below `top` belongs to another user; nothing was changed. Or there is no such group, or this user is
        not in it.
    """
    if os.path.islink(top):
        raise SiteError(f"{top}: is a symbolic link, which is not followed; name {os.path.realpath(top)}")
    if os.stat(top).st_mode & stat.S_ISVTX:
        raise SiteError(f"{top}: is a folder for everybody (sticky), so it is not changed")
    number = group_number(group)
    if number is None and access == GROUP:
        number = os.stat(top).st_gid
    if not only_mine:
        _refuse_others(top)
    changed = Changed()
    for path, descriptor in _entries(top, is_top_first=access == PRIVATE):
        try:
            if not only_mine or os.fstat(descriptor).st_uid == os.geteuid():
                _change(path, descriptor, access, number, keeps_provenance, changed)
        finally:
            os.close(descriptor)
    return changed


def _refuse_others(top: Path) -> None:
    """Refuse a tree in which this user does not own everything; root may change all."""
    if os.geteuid() == 0:
        return
    found = []
    for path, descriptor in _entries(top, is_top_first=True):
        if os.fstat(descriptor).st_uid != os.geteuid():
            found.append(str(path))
        os.close(descriptor)
    if found:
        more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
        raise SiteError(
            f"{top}: {len(found)} files or folders belong to other users, who alone can change them; nothing was "
            f"changed: {', '.join(found[:_MOST_NAMES])}{more}"
        )


def _entries(top: Path, is_top_first: bool) -> Iterator[tuple[Path, int]]:
    """Yield each file and folder with a descriptor of exactly this entry, which no rename can exchange."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    for folder, names, files, descriptor in os.fwalk(top, topdown=is_top_first, onerror=_unless_closed):
        if is_top_first:
            yield Path(folder), os.open(".", flags, dir_fd=descriptor)
        for name in [*files, *(name for name in names if _is_link(name, descriptor))]:
            yield Path(folder, name), os.open(name, flags, dir_fd=descriptor)
        if not is_top_first:
            yield Path(folder), os.open(".", flags, dir_fd=descriptor)


def _unless_closed(error: OSError) -> None:
    raise SiteError(f"{error.filename}: cannot be read: {error.strerror}; nothing below it was changed") from error


def _is_link(name: str, descriptor: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)


def _change(path: Path, descriptor: int, access: str, group: int | None, keeps: bool, changed: Changed) -> None:
    facts = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(facts.st_mode)
    if not is_folder and not stat.S_ISREG(facts.st_mode):
        return
    if not is_folder and facts.st_nlink > 1:
        changed.left.append(str(path))
        return
    exactly = f"/proc/self/fd/{descriptor}"
    if group is not None and facts.st_gid != group:
        try:
            os.chown(exactly, -1, group)
        except PermissionError as error:
            raise SiteError(f"{path}: {not_a_member(group_name(group))}") from error
    is_kept = not is_folder and _PROVENANCE.fullmatch(path.name) is not None and access != PRIVATE
    if is_kept and keeps:
        wanted = stat.S_IMODE(facts.st_mode)
    else:
        stays_closed = is_kept and access == PUBLIC and not facts.st_mode & stat.S_IROTH
        wanted = permissions(facts.st_mode, PRIVATE if stays_closed else access)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != wanted:  # a new group may have taken bits away
        os.chmod(exactly, wanted)
    changed.count += 1


def permissions(mode: int, access: str) -> int:
    """Return the permissions of a file or folder under `access`, from those that its owner has.

    Parameters
    ----------
    mode : int
        ``st_mode``.
    access : str
    """
    owner = mode & stat.S_IRWXU
    if access == PRIVATE:
        return owner
    if access == GROUP:
        return owner | owner >> 3 | (stat.S_ISGID if stat.S_ISDIR(mode) else 0)
    readable = owner & ~stat.S_IWUSR
    return owner | readable >> 3 | readable >> 6 | (mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0)
