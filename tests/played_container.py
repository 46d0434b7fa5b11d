"""A container on a machine of a cloud, played on this one: a file system, process numbers and a host name of its own.

The network is that of this machine. The image is what the tests run with: the system's folders, our Python, and
hpctrain on Python's path.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from own_environment import REPOSITORY
from processes import MARK, wait_until

_OF_THE_IMAGE = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "sys", "usr", "dev")


def can_play() -> bool:
    """Return whether this user may make mounts and process numbers of its own."""
    command = ["unshare", "--mount", "--pid", "--fork", "--uts", "true"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


class PlayedContainer:
    """One container, from its start to its end; its machine's disk ends with it.

    Parameters
    ----------
    folder : Path
        Becomes the root of the container's file system; what an earlier machine had there is removed.
    host : str
        Host name.
    command : sequence of str
        First process of the container: what the request says, ``python3`` being that of the image.
    environment : mapping
        All variables, beside those of the image.
    mounts : mapping
        Folder of this machine for each folder that the platform mounts. What ends with ``:ro`` cannot be written.
    python : Path
        Python of the image.
    hosts : sequence of str
        Names of the containers of the job; all of them are this machine.
    work_dir : str
        Folder in which the command starts.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        mounts: Mapping[str, Path],
        python: Path = Path(sys.executable),
        hosts: Sequence[str] = (),
        work_dir: str = "/",
    ) -> None:
        self.root = folder
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("proc", "tmp", "root", work_dir.strip("/")):
            (folder / name).mkdir(parents=True, exist_ok=True)
        image = {
            "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/root",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: os.environ.get(MARK, ""),
        }
        variables = [f"{name}={value}" for name, value in {**image, **environment}.items()]
        inside = f"cd {shlex.quote(work_dir)} && exec env -i {shlex.join([*variables, *command])}"
        steps = [*self._image(python), *self._mounts(mounts), *self._hosts([host, *hosts])]
        steps += [
            f"hostname {shlex.quote(host)}",
            f"exec chroot {shlex.quote(str(folder))} sh -c {shlex.quote(inside)}",
        ]
        own = ["unshare", "--mount", "--pid", "--fork", "--uts", "--kill-child"]
        self._process = subprocess.Popen([*own, "sh", "-ec", "\n".join(steps)], stdin=subprocess.DEVNULL)

    def terminate(self) -> None:
        """Send TERM to the first process, as a platform does that needs the machine soon."""
        self._signal(signal.SIGTERM)

    def evict(self) -> None:
        """Take the machine away without a warning: all processes of the container end at once."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit code of the first process."""
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(lambda: path.read_text().split(), "the first process of the container")
        os.kill(int(path.read_text().split()[0]), number)

    def _image(self, python: Path) -> list[str]:
        steps = [f"mount -t proc proc {self._at('/proc')}"]
        for top in (Path("/", name) for name in _OF_THE_IMAGE):
            if top.is_symlink():
                (self.root / top.name).symlink_to(os.readlink(top))
            elif top.is_dir():
                steps += self._bind(top, str(top))
        environments = {python.parent.parent, Path(sys.prefix), Path(sys.base_prefix), REPOSITORY}
        for path in sorted(path for path in environments if not path.is_relative_to("/usr")):
            steps += self._bind(path, str(path))
        return [*steps, f"mount -t tmpfs tmpfs {self._at('/dev/shm')}"]

    def _mounts(self, mounts: Mapping[str, Path]) -> list[str]:
        steps = []
        for inside, outside in mounts.items():
            place, _, mode = inside.partition(":")
            steps += self._bind(outside, place)
            if mode == "ro":
                steps.append(f"mount -o remount,bind,ro {self._at(place)}")
        return steps

    def _hosts(self, hosts: Sequence[str]) -> list[str]:
        names = self.root / "hosts"
        names.write_text("127.0.0.1 localhost " + " ".join(dict.fromkeys(hosts)) + "\n")
        return [f"mount --bind {shlex.quote(str(names))} {self._at('/etc/hosts')}"]

    def _bind(self, outside: Path, inside: str) -> list[str]:
        (self.root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return [f"mount --rbind {shlex.quote(str(outside))} {self._at(inside)}"]

    def _at(self, inside: str) -> str:
        return shlex.quote(str(self.root / inside.lstrip("/")))
