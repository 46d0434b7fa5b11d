"""How far a pipeline is and what it has cost, as a table and as a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hpctrain.launch.status import describe
from hpctrain.launch.targets import find_target
from hpctrain.pipeline import folder
from hpctrain.pipeline.cost import Cost, cost_of, sealed_cost, total
from hpctrain.pipeline.folder import PipelineDir, StageDir
from hpctrain.pipeline.kinds import waits_for
from hpctrain.pipeline.run import job_states, runs_here
from hpctrain.pipeline.section import TRAIN
from hpctrain.states import CANCELLED, FAILED, FINISHED, PENDING, REQUEUED, UNKNOWN
from hpctrain.words import format_bytes, format_duration

_MARKS = {
    folder.DONE: "x",
    folder.DONE_BEFORE: "x",
    folder.RUNNING: ">",
    folder.FAILED: "!",
    folder.GATE_FAILED: "!",
    folder.SKIPPED: "-",
    folder.NOT_NEEDED: "-",
}
NONE = "-"


def states_of(pipeline: PipelineDir) -> list[dict[str, Any]]:
    """Return the state of each stage, with what the queue says of those that have not begun, and what it has cost.

    ``cost`` is what the stage has cost this time through, ``saved`` what results had cost that were there already; each
    is None where there is none.
    """
    section, queued = pipeline.section(), job_states(pipeline)
    has_queue = find_target(pipeline.read_record().get("cluster", "local")).has_queue
    found = []
    for stage in section.stages:
        directory = pipeline.stage(stage.name)
        state = directory.read_state()
        facts = {"stage": stage.name, "kind": stage.does, "needs": waits_for(section, stage), **asdict(state)}
        result = directory.read_result(state.key) if state.key else None
        facts["bytes"] = (result or {}).get("bytes")
        facts["results"] = (result or {}).get("run") or (str(directory.sealed(state.key)) if result else None)
        facts["state"], facts["detail"] = _state_now(directory, state.state, queued.get(stage.name), has_queue)
        facts["job"] = queued.get(stage.name) if state.state in (folder.WAITING, folder.RUNNING) else None
        facts |= _costs(directory, facts["state"], result)
        found.append(facts)
    return found


def _state_now(stage: StageDir, state: str, job: str | None, has_queue: bool) -> tuple[str, str]:
    """Return the state of a stage, and more about it, by what it says itself and what is known of its process."""
    if state == folder.RUNNING and (job in (CANCELLED, FAILED) if has_queue else not runs_here(stage)):
        return folder.FAILED, f"it was {'cancelled' if job == CANCELLED else 'killed'}; the same command goes on"
    if state == folder.WAITING or (state == folder.RUNNING and job in (PENDING, REQUEUED)):
        killed = state == folder.RUNNING
        return folder.WAITING, "it was killed; its job waits to go on" if killed else _unusual(job)
    if state == folder.RUNNING and stage.section().does == TRAIN:
        status = describe(stage, ask_queue=False)
        if status.state == FINISHED:  # the stage after it notes that
            return folder.DONE, ""
        return state, f"step {status.step:,} of {status.total_steps:,}" if status.total_steps else status.state
    return state, ""


def _unusual(job: str | None) -> str:
    """Return what is worth knowing of the job of a stage that waits."""
    return "" if job in (None, PENDING, UNKNOWN) else f"its job is {job}"


def _costs(stage: StageDir, state: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if state in (folder.WAITING, folder.SKIPPED) and not stage.path.exists():
        return {"cost": None, "saved": None}
    sealed = sealed_cost(result)
    if result is not None and result.get("pipeline") != stage.pipeline.id:
        return {"cost": None, "saved": asdict(sealed) if sealed else None}
    spent = sealed or cost_of(stage, state == folder.RUNNING)
    return {"cost": asdict(spent) if spent.attempts else None, "saved": None}


def sum_of(states: Sequence[Mapping[str, Any]], name: str) -> Cost:
    """Return the sum of ``cost`` or ``saved`` over all stages."""
    return total(Cost(**each[name]) for each in states if each[name])


def cells_of(cost: Mapping[str, Any] | None) -> list[str]:
    """Return time, hours of cores, hours of GPUs and energy of a cost as texts."""
    if not cost:
        return [NONE] * 4
    kwh = NONE if cost["kwh"] is None else _short(cost["kwh"])
    return [format_duration(cost["seconds"]), _short(cost["cpu_h"]), _short(cost["gpu_h"]), kwh]


def _short(value: float) -> str:
    return "0" if value < 5e-7 else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def lines_of(pipeline: PipelineDir, with_reasons: bool = False) -> Iterator[str]:
    """Yield a line for each stage, and with reasons what has changed since it was done last."""
    record = pipeline.read_record()
    yield f"{pipeline.name}/{pipeline.id} on {record.get('cluster', 'unknown')}"
    states = states_of(pipeline)
    width = max(len("total"), *(len(each["stage"]) for each in states))
    yield _row(" ", width, "stage", "", "size", "took", "CPU h", "GPU h", "kWh")
    for each in states:
        size = format_bytes(each["bytes"]) if each["bytes"] else NONE
        mark = f"[{_MARKS.get(each['state'], ' ')}]"
        yield _row(mark, width, each["stage"], each["state"], size, *cells_of(each["cost"]))
        if each["detail"]:
            yield f"        {each['detail']}"
        if each["note"] and each["state"] != folder.NOT_NEEDED:
            yield f"        {each['note']}"
        if with_reasons:
            yield from (f"        {reason}" for reason in each["why"])
            if each["results"]:
                yield f"        {each['results']}"
    size = format_bytes(sum(each["bytes"] or 0 for each in states))
    yield _row("", width, "total", "", size, *cells_of(asdict(sum_of(states, "cost"))))
    if saved := [each for each in states if each["saved"]]:
        size = format_bytes(sum(each["bytes"] or 0 for each in saved))
        yield _row("", width, "saved", f"{len(saved)} stages", size, *cells_of(asdict(sum_of(states, "saved"))))


def _row(mark: str, width: int, stage: str, state: str, *cells: str) -> str:
    size, took, *hours = cells
    columns = "".join(f"  {cell:>7}" for cell in hours)
    return f"  {mark:<3} {stage:<{width}}  {state:<11}  {size:>7}  {took:>11}{columns}".rstrip()


def mermaid(pipeline: PipelineDir) -> str:
    """Return the stages and what they need as a graph in the language Mermaid, which GitHub and many editors draw."""
    lines = ["graph LR"]
    for each in states_of(pipeline):
        more = [format_bytes(each["bytes"])] if each["bytes"] else []
        if each["cost"]:
            took, cpu_h, gpu_h, kwh = cells_of(each["cost"])
            more += [took, f"{cpu_h} CPU h", *([f"{gpu_h} GPU h"] if each["cost"]["gpu_h"] else [])]
            more += [f"{kwh} kWh"] if kwh != NONE else []
        text = "<br>".join([each["stage"], each["state"], ", ".join(more)]).removesuffix("<br>")
        lines.append(f'  {each["stage"]}["{text}"]')
        lines += [f"  {need} --> {each['stage']}" for need in each["needs"]]
    return "\n".join(lines)
