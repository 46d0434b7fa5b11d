"""Rules about GPUs, heat and disks."""

from __future__ import annotations

from hpctrain.alerts.facts import TRAINING, Disk, Facts, RankNow
from hpctrain.alerts.verdict import UNKNOWN, Verdict, bad, between, well
from hpctrain.words import format_bytes

FEWEST_FILES = 1000
"""A file system with room for fewer new files than this is nearly full."""
_HEAT_SHARE = 0.5


def idle_gpu(now: Facts) -> Verdict:
    """A GPU of the run has next to nothing to do."""
    used = [rank for rank in now.ranks if rank.gpu_percent is not None]
    if not used or now.state != TRAINING:
        return UNKNOWN
    limit = now.limits.idle_gpu_percent
    least = min(used, key=lambda rank: rank.gpu_percent or 0.0)
    number = sum((rank.gpu_percent or 0.0) < limit for rank in used)
    text = f"the GPU of {_place(least)} is used {least.gpu_percent:.0f} % of the time"
    if number:
        return bad(f"{text} ({number} of {len(used)} below {limit:g} %)", least.gpu_percent)
    return well(text, least.gpu_percent) if (least.gpu_percent or 0.0) >= 2 * limit else between(text)


def too_hot(now: Facts) -> Verdict:
    """A GPU is slowed down by heat, or the run pauses to let a machine cool."""
    if not now.ranks:
        return UNKNOWN
    worst = max(now.ranks, key=lambda rank: rank.heat_share)
    pausing = [rank for rank in now.ranks if rank.pace in ("hot", "critical")]
    if pausing:
        return bad(f"the machine of {_place(pausing[0])} is {pausing[0].pace}, and the run pauses", worst.heat_share)
    text = f"the GPU of {_place(worst)} was slowed down by heat in {100 * worst.heat_share:.0f} % of the samples"
    if worst.heat_share >= _HEAT_SHARE:
        return bad(text, worst.heat_share)
    return well(text, worst.heat_share) if worst.heat_share < _HEAT_SHARE / 5 else between(text, worst.heat_share)


def disk_nearly_full(now: Facts) -> Verdict:
    """A file system that the run writes to has little room left."""
    if not now.disks:
        return UNKNOWN
    judged = [(disk.free_bytes / max(1, _needed(now, disk)), disk) for disk in now.disks]
    few = [disk for disk in now.disks if disk.free_files is not None and disk.free_files < FEWEST_FILES]
    share, fullest = min(judged, key=lambda pair: pair[0])
    text = f"{format_bytes(fullest.free_bytes)} are left for {fullest.what} ({fullest.path})"
    if share < 1:
        return bad(text, fullest.free_bytes)
    if few:
        return bad(f"{few[0].what} ({few[0].path}) has room for {few[0].free_files} more files", fullest.free_bytes)
    return well(text, fullest.free_bytes) if share > 1.5 else between(text, fullest.free_bytes)


def _needed(now: Facts, disk: Disk) -> float:
    """Return the room that a file system should have: that of the profile, or of the next two checkpoints [byte]."""
    of_profile = now.limits.disk_free_gib * 2**30
    return max(of_profile, 2 * now.tape.saved_bytes) if disk.is_run else of_profile


def _place(rank: RankNow) -> str:
    return f"rank {rank.rank} on {rank.host}" if rank.host else f"rank {rank.rank}"
