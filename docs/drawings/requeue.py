"""The time line of a job that meets its time limit, loses a node, and ends: three attempts of one run."""

from __future__ import annotations

from dataclasses import dataclass

from drawings.shapes import WIDTH, Arrow, Box, Drawing

SCRIPT, SLURM, RANKS, DISK = "script", "slurm", "ranks", "disk"
LANES = {
    SCRIPT: (72.0, "batch script"),
    SLURM: (208.0, "Slurm"),
    RANKS: (344.0, "ranks"),
    DISK: (482.0, "run directory"),
}
"""Centre [px] and title of each lane."""
BAR, DOT = 12.0, 14.0
"""Width of the bar of a lane, and size of a checkpoint [px]."""
STEP, BAND, END = 30.0, 28.0, 12.0
"""Heights of a message, of the line that says what happens, and of what is below the last message [px]."""
BELOW = 24.0
"""Distance of the line of a message from its top [px]."""

Message = tuple[str, str, str, str]
"""From, to (empty for a remark), text, kind."""


@dataclass(frozen=True)
class Part:
    """A part of the story; without messages the job waits.

    Parameters
    ----------
    says : str
        What happens.
    messages : tuple of Message
        Who tells whom what, in this order.
    ranks : str
        Colour of the ranks.
    begins, ends : bool
        Whether an attempt begins or ends here.
    """

    says: str
    messages: tuple[Message, ...] = ()
    ranks: str = "running"
    begins: bool = False
    ends: bool = False


START: tuple[Message, ...] = (
    (SLURM, SCRIPT, "starts", "flow"),
    (SCRIPT, SLURM, "srun", "flow"),
    (SLURM, RANKS, "starts", "flow"),
)
STORY = (
    Part("You submit the job. It waits in the queue."),
    Part(
        "Attempt 1 saves a checkpoint every 500 steps",
        (*START, (RANKS, DISK, "step 500", "flow good"), (RANKS, DISK, "step 1000", "flow good")),
        begins=True,
    ),
    Part(
        "Three minutes before the time limit: save and leave",
        (
            (SLURM, RANKS, "USR2", "flow bad"),
            (RANKS, DISK, "step 1240", "flow good"),
            (RANKS, SLURM, "exit code 75", "flow"),
            (SLURM, SCRIPT, "75", "flow"),
            (SCRIPT, SLURM, "requeue", "flow blue"),
        ),
        ends=True,
    ),
    Part("The job waits again, under the same job id."),
    Part(
        "Attempt 2 goes on with step 1241",
        (*START, (DISK, RANKS, "step 1240", "flow good"), (RANKS, DISK, "step 1500", "flow good")),
        begins=True,
    ),
    Part(
        "A node dies at step 1690: no signal, no save",
        (
            (RANKS, "", "some are gone", "flow bad"),
            (RANKS, SLURM, "exit code 76", "flow bad"),
            (SLURM, SCRIPT, "76", "flow"),
            (SCRIPT, SLURM, "requeue", "flow blue"),
        ),
        "killed",
        ends=True,
    ),
    Part("The job waits for other nodes."),
    Part(
        "Attempt 3 does 190 steps again, with the same numbers",
        (
            *START,
            (DISK, RANKS, "step 1500", "flow good"),
            (RANKS, DISK, "step 2000", "flow good"),
            (RANKS, DISK, "the model", "flow good"),
            (RANKS, SLURM, "exit code 0", "flow"),
            (SLURM, SCRIPT, "0: finished", "flow"),
        ),
        "ended",
        begins=True,
        ends=True,
    ),
)


def drawing() -> Drawing:
    """Return the drawing."""
    result = Drawing(
        "requeue-line",
        "Time line of a job: a time limit, a node failure, three attempts of one run",
        "The job waits, and attempt 1 saves checkpoints at steps 500 and 1000. Three minutes before the time limit "
        "Slurm sends USR2 to the ranks: all stop at step 1240, save and exit with 75, and the batch script requeues "
        "the job. Attempt 2 loads step 1240 and saves step 1500. A node dies at step 1690: the other ranks exit with "
        "76 and the job is requeued. Attempt 3 loads step 1500, does 190 steps again, writes the model and exits "
        "with 0.",
        0.0,
    )
    for lane, (x, title) in LANES.items():
        result.add(Box(lane, x - 62, 12, 124, 32, title, kind="box"))
    y = 58.0
    for place, part in enumerate(STORY):
        y = _add_part(result, place, part, y)
    result.height = y + 2
    return result


def _add_part(result: Drawing, place: int, part: Part, y: float) -> float:
    """Add what is said and its messages below; return where the next part begins."""
    kind = "band" if part.messages else "waiting"
    result.add(Box(f"says-{place}", 10, y, WIDTH - 20, BAND, lines=(part.says,), kind=kind, align="left"))
    top = y + BAND
    if not part.messages:
        return top + 8
    bottom = top + STEP * len(part.messages) + END
    for lane, (x, _) in LANES.items():
        begin, stop = _life(part, lane, top, bottom)
        look = part.ranks if lane == RANKS else "life"
        result.add(Box(f"{lane}-{place}", x - BAR / 2, begin, BAR, stop - begin, kind=look))
    for number, message in enumerate(part.messages):
        _add_message(result, place, number, top + STEP * number, message)
    return bottom + 4


def _life(part: Part, lane: str, top: float, bottom: float) -> tuple[float, float]:
    """Return from where to where a lane lives in a part: script and ranks live as long as an attempt."""
    places = [number for number, (source, target, *_) in enumerate(part.messages) if lane in (source, target)]
    is_ours = lane in (SCRIPT, RANKS)
    begin = top + STEP * places[0] + BELOW - 8 if part.begins and is_ours else top
    stop = top + STEP * places[-1] + BELOW + 8 if part.ends and is_ours else bottom
    return begin, stop


def _add_message(result: Drawing, place: int, number: int, y: float, message: Message) -> None:
    """Add an arrow between the bars of two lanes, or a checkpoint on the disk, with its text above."""
    source, target, text, kind = message
    left, right = sorted((LANES[source][0], LANES[target or DISK][0]))
    look = {"flow bad": "bad text", "flow good": "good text"}.get(kind, "text")
    name = f"{place}-{number}"
    room = (left + BAR, y + 3 if target else y + 8, right - left - 2 * BAR, 18)
    result.add(Box(f"text-{name}", *room, lines=(text,), kind=look))
    if target:
        ends = [_end(result, f"{lane}-{place}", name, y + BELOW) for lane in (source, target)]
        sides = (1.0, 0.0) if LANES[source][0] < LANES[target][0] else (0.0, 1.0)
        leave, enter = ((side, (y + BELOW - end.y) / end.height) for side, end in zip(sides, ends, strict=True))
        result.add(Arrow(ends[0].name, ends[1].name, leave, enter, kind=kind))


def _end(result: Drawing, lane: str, name: str, y: float) -> Box:
    """Return the box that an arrow touches: the bar of a lane, or on the disk a checkpoint, which is added."""
    bar = result.box(lane)
    if not lane.startswith(DISK):
        return bar
    middle = bar.x + bar.width / 2
    result.add(Box(f"checkpoint-{name}", middle - DOT / 2, y - DOT / 2, DOT, DOT, kind="saved"))
    return result.boxes[-1]
