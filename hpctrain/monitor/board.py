"""Recorded machines: one text file that holds the files of ``/sys`` and ``/proc`` that sensors read.

A line is ``path = contents``. In the contents ``\\n`` is a line break and ``\\0`` ends a string; ``!EIO`` stands for a
file that cannot be read. Lines that start with ``#`` are comments. With a recording, `hpctrain monitor` and a run find
on any machine the sensors that they would find on that board.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from hpctrain.errors import SiteError

UNREADABLE = "!EIO"

RECORDED = (
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "proc/device-tree/compatible",
    "proc/device-tree/model",
    "proc/meminfo",
    "proc/pressure/memory",
    "proc/stat",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/name",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_input",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/curr*_input",
    "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/curr*_crit_alarm",
    "sys/class/devfreq/*/cur_freq",
    "sys/class/devfreq/*/max_freq",
    "sys/class/devfreq/*/device/load",
    "sys/class/powercap/intel-rapl:*/name",
    "sys/class/powercap/intel-rapl:*/energy_uj",
    "sys/class/powercap/intel-rapl:*/max_energy_range_uj",
    "sys/class/thermal/thermal_zone*/type",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/trip_point_*_type",
    "sys/class/thermal/thermal_zone*/trip_point_*_temp",
    "sys/devices/platform/soctherm-oc-event/hwmon/hwmon*/oc*_event_cnt",
    "sys/devices/platform/soctherm-oc-event/hwmon/hwmon*/oc*_throt_en",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "var/lib/nvpmodel/status",
)
"""Patterns below ``/`` of the files that sensors read."""


def record(path: Path, root: Path = Path("/")) -> int:
    """Write a recording of this machine and return how many files it holds.

    Parameters
    ----------
    path : Path
        The text file; an existing one is not replaced.
    root : Path
        Where ``sys`` and ``proc`` are.

    Raises
    ------
    SiteError
        The file exists, cannot be written, or there is nothing to record.
    """
    lines = [_line(found, root) for pattern in RECORDED for found in sorted(root.glob(pattern))]
    if not lines:
        raise SiteError(
            f"{root}: none of the files that sensors read is below it; is this the root of a Linux machine?"
        )
    try:
        with open(path, "x", encoding="utf-8") as stream:
            stream.write("# recorded by hpctrain monitor --record\n" + "\n".join(lines) + "\n")
    except FileExistsError as error:
        raise SiteError(f"{path}: exists already; choose another name") from error
    except OSError as error:
        raise SiteError(f"{path}: cannot be written ({error.strerror})") from error
    return len(lines)


def _line(path: Path, root: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        text = UNREADABLE
    return f"{path.relative_to(root)} = {text}".replace("\n", "\\n").replace("\0", "\\0")


def unfold(recording: Path, folder: Path) -> None:
    """Write the files of a recording below a folder, which then takes the place of ``/`` of the machine.

    Parameters
    ----------
    recording : Path
    folder : Path

    Raises
    ------
    SiteError
        The recording cannot be read, or a line is not ``path = contents``.
    """
    try:
        text = recording.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{recording}: cannot be read as a recorded machine ({error})") from error
    files = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, contents = line.partition(" = ")
        path = PurePosixPath(name)
        if not equals or path.is_absolute() or ".." in path.parts:
            raise SiteError(
                f"{recording}: line {number}: found {line[:60]!r}; a recorded machine has lines such as "
                "'sys/class/thermal/thermal_zone0/temp = 41000'; make one with: hpctrain monitor --record FILE.txt"
            )
        files[name] = contents.replace("\\n", "\n").replace("\\0", "\0")
    if not files:
        raise SiteError(f"{recording}: holds no recorded file; make one with: hpctrain monitor --record FILE.txt")
    for name, contents in files.items():
        write_file(folder / name, contents)


def write_file(path: Path, contents: str) -> None:
    """Write one file of a recorded machine in one step, as the kernel shows it; `UNREADABLE` makes reading it fail."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    if contents == UNREADABLE:
        path.unlink(missing_ok=True)
        path.mkdir()  # reading a folder fails with an OSError, too
        return
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(f"{contents}\n", encoding="utf-8")
    temporary.replace(path)


@functools.cache
def unfolded(recording: Path) -> Path:
    """Return a temporary folder with the files of a recording; it is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="hpctrain-board-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unfold(recording, folder)
    return folder
