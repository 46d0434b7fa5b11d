"""Who does something: the user of this process, its groups and the host."""

from __future__ import annotations

import grp
import os
import pwd
import socket
from typing import Any


def who() -> dict[str, Any]:
    """Return ``user``, ``uid`` and ``host`` of this process; the kernel says who the user is, not the environment."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container without this user
        user = str(uid)
    return {"user": user, "uid": uid, "host": socket.gethostname()}


def groups() -> set[str]:
    """Return the names of the POSIX groups of this process; the number of a group that has no name."""
    found = set()
    for number in {os.getegid(), *os.getgroups()}:
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            found.add(str(number))
    return found
