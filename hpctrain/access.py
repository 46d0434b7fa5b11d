"""Who may read and write what hpctrain writes: ``private``, ``group`` or ``public``.

A run, study or pipeline whose profile sets ``launch.access`` has a file :data:`MARK` in its folder, which holds one of
these words. Every process that works in the folder takes its umask from this file (:func:`enter`), and so do the batch
script and Slurm, so files of libraries get the same permissions as our own. The bit *setgid* of the folder gives its
group to everything in it. Without the file, the umask of the user decides.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hpctrain.errors import SiteError
from hpctrain.files import NewFile, read_text

PRIVATE, GROUP, PUBLIC = "private", "group", "public"
MARK = ".hpctrain-access"
"""Name of the file that says who may read and write its folder."""
UMASKS = {PRIVATE: 0o077, GROUP: 0o007, PUBLIC: 0o022}
_FOLDERS = {PRIVATE: 0o700, GROUP: 0o770 | stat.S_ISGID, PUBLIC: 0o755}
_LEVELS = 5
"""The folder itself and its parents that may have the mark: a fold is four levels below the folder of all runs."""
_LARGEST_MARK = 64


def access_of(folder: str | Path) -> str | None:
    """Return ``private``, ``group`` or ``public``; None if neither the folder nor a parent near it has the mark.

    The mark counts only if it belongs to the owner of its folder, to root or to this user: in a folder such as /tmp
    anybody could put one.

    Parameters
    ----------
    folder : str or Path
        It need not exist yet.
    """
    path = Path(os.path.abspath(folder))
    for place in [path, *path.parents][:_LEVELS]:
        with contextlib.suppress(OSError):
            word = read_text(place / MARK, _LARGEST_MARK).strip()
            owner = os.lstat(place / MARK).st_uid
            if word in UMASKS and owner in (0, os.geteuid(), place.stat().st_uid):
                return word
    return None


def enter(folder: str | Path) -> None:
    """Give this process, until its end, the umask of a folder; without a mark it keeps its own."""
    if (access := access_of(folder)) is not None:
        os.umask(UMASKS[access])


@contextlib.contextmanager
def following(folder: str | Path) -> Iterator[None]:
    """Give this process the umask of a folder, as :func:`enter` does, until the end of the block."""
    with _with_umask(access_of(folder)):
        yield


@contextlib.contextmanager
def _with_umask(access: str | None) -> Iterator[None]:
    if access is None:
        yield
        return
    before = os.umask(UMASKS[access])
    try:
        yield
    finally:
        os.umask(before)


def make(folder: Path, access: str | None = None, group: str | None = None) -> None:
    """Make a new folder, and its parents that are missing.

    Parameters
    ----------
    folder : Path
    access : str, optional
        Without it, a mark of a parent decides, else the umask. New parents are opened to those who may read the folder;
        parents that exist stay as they are.
    group : str, optional
        POSIX group of the folder; without it, the one that the system gives to new folders there.

    Raises
    ------
    FileExistsError
        There is something with this name.
    SiteError
        There is no such group, or this user is not in it.
    OSError
        The folder cannot be made.
    """
    if access is None:
        with following(folder.parent):
            folder.mkdir(parents=True)
        return
    number = group_number(group)
    for parent in [parent for parent in reversed(folder.parents) if not parent.exists()]:
        parent.mkdir(exist_ok=True)
        if access != PRIVATE:
            open_folder(parent, access, number)
    folder.mkdir(mode=0o700)
    open_folder(folder, access, number)
    write_mark(folder, access)


def open_folder(folder: Path, access: str, group: int | None) -> None:
    """Give a folder of this user its group and its permissions.

    Raises
    ------
    SiteError
        This user may not give the folder to the group.
    """
    facts = folder.stat()
    if group is not None and facts.st_gid != group:
        try:
            os.chown(folder, -1, group)
        except PermissionError as error:
            raise SiteError(f"{folder}: {not_a_member(group_name(group))}") from error
    folder.chmod(_FOLDERS[access] | (facts.st_mode & stat.S_ISGID if access == PUBLIC else 0))


def write_mark(folder: Path, access: str) -> None:
    """Write the file that processes take their umask from."""
    with _with_umask(access), NewFile(folder / MARK) as new:
        new.stream.write(f"{access}\n".encode())


def group_number(name: str | None) -> int | None:
    """Return the number of a POSIX group; None for None.

    Raises
    ------
    SiteError
        There is no such group on this machine.
    """
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SiteError(f"there is no group '{name}' on this machine; yours are {', '.join(my_groups())}") from None


def group_name(number: int) -> str:
    """Return the name of a group; its number if it has no name."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def my_groups() -> list[str]:
    """Return the names of the groups of this process, sorted."""
    return sorted({group_name(number) for number in (os.getegid(), *os.getgroups())})


def not_a_member(group: str) -> str:
    """Return that this user cannot give files to a group."""
    return f"you are not in the group '{group}'; yours are {', '.join(my_groups())}"


def why_no_group(name: str) -> str:
    """Return why this user cannot give files to a group; empty if it can."""
    try:
        number = group_number(name)
    except SiteError as error:
        return str(error)
    is_mine = os.geteuid() == 0 or number in (os.getegid(), *os.getgroups())
    return "" if is_mine else not_a_member(name)
