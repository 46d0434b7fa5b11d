"""Files: logs, folders, paths, secrets."""

from __future__ import annotations

import io
import re
from pathlib import Path

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript

GROUP = "Files"
_UNIQUE = re.compile(r"%\d*[jAaJ]")
_PER_TASK = re.compile(r"%\d*[jaJ]")


def _logs(script: BatchScript):
    return [option for name in ("output", "error") if (option := script.option(name)) and option.value]


@rule(
    "output-overwritten",
    GROUP,
    "warning",
    "a log that the next job overwrites",
    """Without the job id in its name every job writes the same file: the log of the run that went well is gone, and
    two jobs at a time write into each other.""",
    "Put `%j` into the name, `--output=%x-%j.log` (in arrays `%A_%a`), or write `--open-mode=append`.",
)
def output_overwritten(script: BatchScript) -> Hits:
    if (script.value("open-mode") or "").startswith("a") or script.option("array"):
        return
    seen = set()
    for option in _logs(script):
        value = option.value or ""
        if value not in ("/dev/null", "none") and not _UNIQUE.search(value) and "$" not in value and value not in seen:
            seen.add(value)
            yield option.line, f"{option.raw} has no job id"


@rule(
    "array-shared-output",
    GROUP,
    "error",
    "one log for all tasks of an array",
    "The tasks open the same file and overwrite each other: the log of one task, or a mixture, is left.",
    "Write `--output=%x-%A_%a.log`.",
)
def array_shared_output(script: BatchScript) -> Hits:
    array = script.option("array")
    if not array or re.fullmatch(r"(\d+)(-\1)?(%\d+)?|\d+-\d+%1", array.value or ""):
        return
    for option in _logs(script):
        if option.value not in ("/dev/null", "none") and not _PER_TASK.search(option.value or ""):
            yield option.line, f"{option.raw} with {array.raw}"


@rule(
    "log-folder-missing",
    GROUP,
    "warning",
    "a log in a folder that is not here",
    """Slurm opens the log before the script runs, and makes no folder: the job fails with ExitCode 0:53 and leaves no
    output at all (measured with Slurm 22.05). A mkdir in the script comes too late.""",
    "Make the folder before sbatch (`mkdir -p logs`), and keep it in the repository with a `.gitkeep`.",
)
def log_folder_missing(script: BatchScript) -> Hits:
    if script.option("chdir"):
        return
    seen = set()
    for option in _logs(script):
        folder = (option.value or "").rpartition("/")[0]
        if not folder or folder.startswith(("/", "~", "$")) or folder in seen or folder.strip("./") == "":
            continue
        seen.add(folder)
        if "%" in folder or not _exists(folder, script.path):
            yield option.line, f"{folder}/ is neither in this folder nor beside the script"


def _exists(folder: str, path: Path | None) -> bool:
    here = [Path.cwd()] + ([*path.resolve().parents] if path else [])
    return any((place / folder).is_dir() for place in here)


@rule(
    "unquoted-path",
    GROUP,
    "note",
    "a path without quotes",
    """A space in the path makes two words of it, and an empty variable none: `cd $DIR` then goes home, and `rm -r
    $DIR/*` starts at /.""",
    'Write `"$DIR"`, and `"${DIR:?}"` where an empty value would do harm.',
)
def unquoted_path(script: BatchScript) -> Hits:
    """Only where a wrong word does harm: `cd` and what removes or replaces files."""
    for command in script.commands:
        if command.name not in ("cd", "rm", "mv"):
            continue
        for word in command.words[1:]:
            found = re.search(r"\$\{?([A-Za-z_]\w*)\}?(?!\w*:\?)", word.bare)
            if found and not found[1].startswith("SLURM_") and ":?" not in word.bare and not word.substitutions:
                yield command.line, f"{command.text[:50]!r}"
                break


@rule(
    "rm-of-variable",
    GROUP,
    "warning",
    "rm -r of a variable that may be empty",
    "With an empty variable `rm -rf $DIR/*` is `rm -rf /*`: of all files that you may delete.",
    '`rm -rf "${DIR:?}"/*` ends with an error if DIR is empty; or use `set -u`.',
)
def rm_of_variable(script: BatchScript) -> Hits:
    strict = any(command.name == "set" and re.search(r"-\w*u|nounset", command.text) for command in script.commands)
    for command in script.commands:
        if command.name == "rm" and not strict and re.search(r"\s-\w*[rR]", command.text):
            for word in command.words[1:]:
                found = re.match(r"\$\{?([A-Za-z_]\w*)\}?/(\*|$)", word.live)
                if found and ":?" not in word.live and not _has_value(script, found[1]):
                    yield command.line, f"{command.text[:50]!r}"
                    break


def _has_value(script: BatchScript, name: str) -> bool:
    word = script.assigned.get(name)
    return word is not None and bool(re.match(r"[\w./~-]", word.value))


@rule(
    "secret-in-script",
    GROUP,
    "error",
    "a password, token or key in the script",
    """The script goes to the controller, to accounting (AccountingStoreFlags=job_script), to git, and into mails to
    the support: whoever reads one of them has the key.""",
    """Make the key invalid where it was made. Keep the new one in a file that only you can read (`wandb login`,
    ~/.netrc, `source ~/.secrets`).""",
)
def secret_in_script(script: BatchScript) -> Hits:
    from hpctrain.credentials.scan import Sought, scan_stream

    for found in scan_stream(io.BytesIO(script.text.encode("utf-8", "replace")), Sought({})):
        yield found.line or 1, found.kind
