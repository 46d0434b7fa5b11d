"""The ten stages of a pipeline: what each reads from outside, what it leaves, and where the pipeline can end."""

from __future__ import annotations

from drawings.shapes import Arrow, Box, Drawing

STAGES = (
    ("ingest", "survey files become HDF5", "survey files", "data.h5", ""),
    ("validate", "are the data as expected?", "expectations", "", "not as expected"),
    ("preprocess", "commands of yours", "your program", "spectra.h5", ""),
    ("features", "commands of yours", "your program", "indices.h5", ""),
    ("split", "is an object on both sides?", "", "", "a leak"),
    ("train", "resumes by itself", "profile.yaml", "the model", ""),
    ("evaluate", "metrics of held-out objects", "", "validation.json", ""),
    ("gate", "is the model good enough?", "gates", "", "not good enough"),
    ("register", "a version with an alias", "", "the registry", ""),
    ("log", "a copy on a server", "", "MLflow or W&B", ""),
)
"""Name, what it does, what it reads from outside, what it leaves, and why it can end the pipeline."""
TOP, PITCH, HEIGHT = 52.0, 62.0, 44.0
LEFT, MIDDLE, RIGHT = (10.0, 130.0), (168.0, 222.0), (418.0, 132.0)
"""Left edge and width of each column [px]."""


def drawing() -> Drawing:
    """Return the drawing."""
    result = Drawing(
        "pipeline-stages",
        "The ten stages of a pipeline",
        "From top to bottom: ingest turns survey files into data.h5; validate compares them with expectations; "
        "preprocess and features run commands of yours; split looks for leaks; train makes the model of a profile and "
        "resumes by itself; evaluate writes validation.json; gate; register adds a version to the registry; log tells "
        "MLflow or W&B. Validate, split and gate can end the pipeline with exit code 7.",
        TOP + PITCH * len(STAGES) + 48,
    )
    for (x, width), text in zip((LEFT, MIDDLE, RIGHT), ("from outside", "stage", "what it leaves"), strict=True):
        result.add(Box(f"head-{text}", x, 14, width, 24, lines=(text,), kind="soft"))
    for place, stage in enumerate(STAGES):
        _add_stage(result, place, *stage)
    foot = TOP + PITCH * len(STAGES)
    text = ("A stage whose inputs, commands and version are as before", "is not done again.")
    result.add(Box("foot", 10, foot, 540, 38, lines=text, kind="soft"))
    return result


def _add_stage(result: Drawing, place: int, name: str, does: str, reads: str, leaves: str, ends: str) -> None:
    y = TOP + PITCH * place
    result.add(Box(name, MIDDLE[0], y, MIDDLE[1], HEIGHT, name, (does,), "held" if ends else "blue"))
    if place:
        result.add(Arrow(STAGES[place - 1][0], name, (0.5, 1), (0.5, 0)))
    if reads:
        result.add(Box(f"{name}-reads", LEFT[0], y + 7, LEFT[1], HEIGHT - 14, lines=(reads,), kind="outside"))
        result.add(Arrow(f"{name}-reads", name))
    if leaves:
        result.add(Box(f"{name}-leaves", RIGHT[0], y + 7, RIGHT[1], HEIGHT - 14, lines=(leaves,), kind="file"))
        result.add(Arrow(name, f"{name}-leaves"))
    if ends:
        result.add(Box(f"{name}-ends", RIGHT[0], y, RIGHT[1], HEIGHT, "exit code 7", (ends,), "bad"))
        result.add(Arrow(name, f"{name}-ends", kind="flow bad"))
