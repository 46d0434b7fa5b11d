"""Permissions of whole folders, and other users who try to read and write: forks of this process, if it is root."""

from __future__ import annotations

import grp
import os
import pickle
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctrain.access import GROUP, MARK, PRIVATE, PUBLIC

OWNER, MEMBER, STRANGER = 65_021, 65_022, 65_023
"""Numbers of three users; the first two are in :func:`shared_group`."""
FILES = {PRIVATE: 0o600, GROUP: 0o660, PUBLIC: 0o644}
FOLDERS = {PRIVATE: 0o700, GROUP: 0o2770, PUBLIC: 0o755}


def shared_group() -> grp.struct_group:
    """Return a group of this machine that is not root's."""
    return next(each for each in grp.getgrall() if 0 < each.gr_gid < 60_000)


def wrong_permissions(folder: Path, access: str) -> list[str]:
    """Return each file and folder below `folder` whose permissions are not those of `access`, links left out.

    Under ``public`` only the owner may read ``provenance.json``. What nobody may write is a version of a registry.
    """
    wrong = []
    group = folder.stat().st_gid
    for path in [folder, *folder.rglob("*")]:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            continue
        wanted = FOLDERS[access] if path.is_dir() else FILES[access]
        if access == PUBLIC and path.name.startswith("provenance"):
            wanted = 0o600
        found = stat.S_IMODE(facts.st_mode)
        inherited = 0 if access == GROUP else stat.S_ISGID  # from a folder above that is a group's
        if found & ~inherited != wanted or (access == GROUP and facts.st_gid != group):
            wrong.append(f"{found:o} {facts.st_gid} {path.relative_to(folder)}")
    return wrong


def as_user(user: int, action: Callable[[], Any], *, in_group: bool = True) -> Any:
    """Return what `action` returns in a fork that is another user, in the shared group or not.

    The fork has the umask of most clusters, 022. What the action imports must be imported already: the Python of root
    may be closed to others.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([shared_group().gr_gid] if in_group else [])
            os.setgid(user)
            os.setuid(user)
            os.umask(0o022)
            answer = (True, action())
        except BaseException as error:
            answer = (False, f"{error!r}\n{traceback.format_exc()}")
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        content = stream.read()
    os.waitpid(child, 0)
    is_good, answer = pickle.loads(content)
    assert is_good, answer
    return answer


def open_to_users() -> Iterator[Path]:
    """Yield a folder that the owner may write and everybody may pass, which pytest's own folders do not let."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp(prefix="hpctrain-users-", dir="/tmp"))
    os.chown(folder, OWNER, OWNER)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def may(action: Callable[[], Any]) -> bool:
    """Return whether the system lets this user do something."""
    try:
        action()
    except PermissionError:
        return False
    return True


def abilities(folder: Path) -> dict[str, bool]:
    """Return what this user may do with a folder and a file in it, by trying."""
    name = folder / MARK
    return {
        "read": may(lambda: (os.listdir(folder), name.read_bytes())),
        "change": may(lambda: os.close(os.open(name, os.O_WRONLY))),
        "add": may(lambda: (folder / f"by-{os.getuid()}").write_text("new")),
    }
