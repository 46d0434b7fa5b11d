"""Lines of the header: what sbatch does not read, reads differently, or refuses."""

from __future__ import annotations

import difflib
import re

from hpctrain.lint.header import FLAGS, VALUED
from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript

GROUP = "The lines that sbatch reads"


@rule(
    "carriage-return",
    GROUP,
    "error",
    "line breaks of DOS",
    """sbatch refuses the script: "Batch script contains DOS line breaks (\\r\\n)". An editor or git on Windows wrote
    them.""",
    "Convert the file: `sed -i 's/\\r$//' FILE`, or `hpctrain lint --fix FILE`.",
)
def carriage_return(script: BatchScript) -> Hits:
    count = script.text.count("\r\n")
    if count:
        line = script.text[: script.text.index("\r\n")].count("\n") + 1
        yield line, f"{count} lines end with a carriage return"


@rule(
    "no-shebang",
    GROUP,
    "error",
    "no interpreter in the first line",
    'sbatch refuses a script whose first line does not begin with #!: "This does not look like a batch script".',
    "Begin the file with `#!/bin/bash`.",
)
def no_shebang(script: BatchScript) -> Hits:
    if not script.lines[0].startswith("#!"):
        yield 1, f"the first line is {script.lines[0][:40]!r}"


@rule(
    "directive-after-command",
    GROUP,
    "error",
    "#SBATCH after the first command",
    "sbatch stops reading options at the first command; it ignores the line without a message.",
    "Move the line above the first command.",
)
def directive_after_command(script: BatchScript) -> Hits:
    for line, text in script.header.late:
        yield line, f"{text.strip()[:60]!r} comes after the command in line {script.header.end}"


@rule(
    "directive-not-read",
    GROUP,
    "warning",
    "a line that looks like #SBATCH and is a comment",
    """sbatch reads a line only if it begins with exactly #SBATCH: an indented line, `# SBATCH` and `#sbatch` are
    comments (measured with Slurm 22.05). No message tells you that the option has no effect.""",
    "Write `#SBATCH` in capitals, without spaces before or within it. To comment an option out, write `##SBATCH`.",
)
def directive_not_read(script: BatchScript) -> Hits:
    for line, text in script.header.malformed:
        yield line, f"{text.rstrip()[:60]!r} is a comment for sbatch"


@rule(
    "variable-in-directive",
    GROUP,
    "error",
    "a variable in an #SBATCH line",
    """sbatch expands no variables, no `$(...)` and no `~`. The job gets the text itself: a log folder called `$HOME`,
    or a job called `$USER-x` (measured).""",
    """Use Slurm's own patterns in file names (`%j`, `%x`, `%u`), a path from the folder of submission, or give the
    option on the command line: `sbatch --output="$HOME/logs/%j.log" FILE`.""",
)
def variable_in_directive(script: BatchScript) -> Hits:
    for option in script.header.options:
        value = option.value or ""
        is_path = option.name in ("output", "error", "input", "chdir")
        if re.search(r"\$[A-Za-z_{(]|`", value) or (is_path and value.startswith("~")):
            yield option.line, f"{option.raw} is not expanded"


@rule(
    "misspelt-option",
    GROUP,
    "error",
    "an option that sbatch does not have",
    "sbatch refuses a script with an unknown option.",
    "Correct the name; `sbatch --help` lists all options.",
)
def misspelt_option(script: BatchScript) -> Hits:
    """Names that resemble no option may belong to a plugin of the site, and are not reported."""
    for option in script.header.options:
        if option.is_known or not option.raw.startswith("--"):
            continue
        name = option.name
        begins = [each for each in sorted(FLAGS | VALUED) if each.startswith(name)]
        near = begins or difflib.get_close_matches(name, FLAGS | VALUED, n=1, cutoff=0.84)
        if near:
            yield option.line, f"sbatch has no option --{name}; did you mean --{near[0]}?"


@rule(
    "repeated-option",
    GROUP,
    "warning",
    "an option that is given twice",
    "sbatch takes the last one and ignores the others without a message; `-t` and `--time` are the same option.",
    "Keep one of them. For two signals, choose one and let the trap or the trainer treat it like TERM.",
)
def repeated_option(script: BatchScript) -> Hits:
    first = {}
    for option in script.header.options:
        if option.name in ("mail-user", "mail-type") or not option.is_known:  # types of mails add up
            continue
        before = first.setdefault(option.name, option)
        if before is not option and before.value != option.value:
            yield option.line, f"{option.raw} replaces {before.raw} of line {before.line}"


@rule(
    "minutes-and-seconds",
    GROUP,
    "error",
    "a time limit of two parts",
    """`A:B` is minutes and seconds, not hours and minutes: with `--time=24:00` the job ends after 24 minutes (measured
    with Slurm 22.05).""",
    "Write all three parts, `24:00:00`, or days, `1-00:00:00`.",
)
def minutes_and_seconds(script: BatchScript) -> Hits:
    option = script.option("time")
    if option and re.fullmatch(r"\d+:\d+", option.value or ""):
        first, second = (option.value or "").split(":")
        yield option.line, f"{option.raw} is {int(first)} minutes and {int(second)} seconds"


@rule(
    "no-time-limit",
    GROUP,
    "note",
    "no time limit",
    """The job gets the limit of the partition: on some clusters a few minutes, on others days, and a long limit keeps
    the job from being started early in a hole of the queue.""",
    "Add `#SBATCH --time=HH:MM:SS` with what the job needs.",
)
def no_time_limit(script: BatchScript) -> Hits:
    if script.header.options and not script.option("time"):
        yield script.header.options[0].line, "there is no --time"
