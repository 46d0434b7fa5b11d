"""The lines that call a pipeline again and again: for cron, for Slurm's scrontab, and for a timer of systemd."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.plan import checkout_root
from hpctrain.pipeline.section import PipelineSection
from hpctrain.profile.sections.base import parse_time_limit_s

CRON, SCRON, SYSTEMD = "cron", "scron", "systemd"
_MINUTES_OF_A_DAY = 24 * 60


def schedule_text(file: Path, section: PipelineSection, way: str, every: str, folder: Path) -> str:
    """Return the text to add to a crontab or scrontab, or the two units of systemd.

    Parameters
    ----------
    file : Path
        Pipeline file.
    section : PipelineSection
    way : str
        ``cron``, ``scron`` or ``systemd``.
    every : str
        ``5m``, ``2h`` or ``1d``.
    folder : Path
        Folder in which the pipeline is called.

    Raises
    ------
    ProfileError
        `every` is no such time, or cron cannot say it.
    """
    minutes = _minutes_of(every)
    log = Path(section.folder) / section.name / "schedule.log"
    environment = f"PYTHONPATH={shlex.quote(str(root))} " if (root := checkout_root()) else ""
    command = shlex.join([sys.executable, "-m", "hpctrain", "pipeline", str(file.absolute()), "--if-changed"])
    if way == SYSTEMD:
        return _units(section.name, command, minutes, folder, environment.strip())
    # cron reads a percent sign as the end of the line.
    makes, to = f"mkdir -p {shlex.quote(str(log.parent))}", f">> {shlex.quote(str(log))} 2>&1"
    call = f"cd {shlex.quote(str(folder))} && {makes} && {environment}{command} {to}".replace("%", r"\%")
    line = f"{cron_time(every)} {call}"
    if way == CRON:
        return f"# add with: crontab -e\n{line}\n"
    partition = f" --partition={section.launch.partition}" if section.launch.partition else ""
    seconds = parse_time_limit_s("00:30:00")
    options = f"#SCRON --job-name={section.name}-schedule --time={seconds // 60}{partition}"
    return f"# add with: scrontab -e\n{options}\n{line}\n"


def _minutes_of(every: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,3})([mhd])", every)
    if match is None:
        raise ProfileError("command line", [Problem("--every", f"'{every}' is no time; write 5m, 2h or 1d")])
    return int(match[1]) * {"m": 1, "h": 60, "d": _MINUTES_OF_A_DAY}[match[2]]


def cron_time(every: str) -> str:
    """Return the five fields of cron for ``5m``, ``2h`` or ``1d``.

    Raises
    ------
    ProfileError
        `every` is no such time, or cron cannot say it.
    """
    minutes = _minutes_of(every)
    if minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
    hours, rest = divmod(minutes, 60)
    if not rest and hours < 24 and 24 % hours == 0:
        return f"0 */{hours} * * *" if hours > 1 else "0 * * * *"
    if minutes == _MINUTES_OF_A_DAY:
        return "0 3 * * *"
    message = f"cron cannot say every {every}; use a part of an hour such as 5m, a part of a day such as 6h, or 1d"
    raise ProfileError("command line", [Problem("--every", message)])


def _units(name: str, command: str, minutes: int, folder: Path, environment: str) -> str:
    variable = f"Environment={environment}\n" if environment else ""
    call = command.replace("%", "%%")
    return f"""\
# ~/.config/systemd/user/hpctrain-{name}.service
[Unit]
Description=hpctrain pipeline {name}

[Service]
Type=oneshot
WorkingDirectory={folder}
{variable}ExecStart={call}
SuccessExitStatus=5 7

# ~/.config/systemd/user/hpctrain-{name}.timer
[Unit]
Description=hpctrain pipeline {name} every {minutes} minutes

[Timer]
OnBootSec=5min
OnUnitActiveSec={minutes}min

[Install]
WantedBy=timers.target

# then: systemctl --user daemon-reload && systemctl --user enable --now hpctrain-{name}.timer
"""
