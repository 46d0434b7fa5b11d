"""Recorded machines: a list of files of /sys and /proc unfolded into a folder that stands for /."""

from __future__ import annotations

from pathlib import Path

from hpctrain.monitor.board import unfold, write_file

RECORDED = Path(__file__).parent / "data/machines"


class Machine:
    """A folder that stands for ``/`` of a recorded machine.

    Parameters
    ----------
    root : Path
        Where it is unfolded.
    name : str
        A file of ``tests/data/machines`` without ``.txt``.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        unfold(RECORDED / f"{name}.txt", root)

    def write(self, path: str, contents: str) -> None:
        """Write one file, as a whole, as the kernel shows it; ``!EIO`` makes it unreadable."""
        write_file(self.root / path, contents)

    def zone(self, name: str) -> str:
        """Return the folder of a thermal zone, such as ``tj-thermal``."""
        for path in (self.root / "sys/class/thermal").glob("thermal_zone*/type"):
            if path.read_text().strip() == name:
                return str(path.parent.relative_to(self.root))
        raise LookupError(name)

    def heat(self, celsius: float, *zones: str) -> None:
        """Set the temperature of thermal zones; ``tj-thermal`` if none is named."""
        for name in zones or ("tj-thermal",):
            self.write(f"{self.zone(name)}/temp", f"{celsius * 1000:.0f}")

    def renumber(self, change: dict[str, str]) -> None:
        """Rename folders such as ``hwmon3``, as a boot may do it."""
        for before, after in change.items():
            for path in sorted(self.root.rglob(before)):
                path.rename(path.with_name(after))
