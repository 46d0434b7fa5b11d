"""How far a pipeline is, as a table and as a graph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hpctrain.launch.status import describe
from hpctrain.pipeline import folder
from hpctrain.pipeline.folder import PipelineDir
from hpctrain.pipeline.kinds import waits_for
from hpctrain.pipeline.run import job_states
from hpctrain.pipeline.section import TRAIN
from hpctrain.states import ACTIVE, CANCELLED, FAILED, RUNNING
from hpctrain.words import format_bytes, format_duration

_MARKS = {
    folder.DONE: "x",
    folder.DONE_BEFORE: "x",
    folder.RUNNING: ">",
    folder.FAILED: "!",
    folder.GATE_FAILED: "!",
    folder.SKIPPED: "-",
}


def states_of(pipeline: PipelineDir) -> list[dict[str, Any]]:
    """Return the state of each stage, with what the queue says of those that have not begun."""
    section, queued = pipeline.section(), job_states(pipeline)
    found = []
    for stage in section.stages:
        directory = pipeline.stage(stage.name)
        state = directory.read_state()
        facts = {"stage": stage.name, "kind": stage.does, "needs": waits_for(section, stage), **asdict(state)}
        result = directory.read_result(state.key) if state.key else None
        facts["bytes"] = (result or {}).get("bytes")
        facts["results"] = (result or {}).get("run") or (str(directory.sealed(state.key)) if result else None)
        job = queued.get(stage.name)
        if state.state in (folder.WAITING, folder.RUNNING) and job is not None:
            facts["job"] = job
            if job in (CANCELLED, FAILED):
                facts["state"] = folder.FAILED if state.state == folder.RUNNING else folder.WAITING
        if stage.does == TRAIN and state.state == folder.RUNNING:
            status = describe(directory, ask_queue=False)
            facts["detail"] = f"step {status.step:,} of {status.total_steps:,}" if status.total_steps else status.state
        found.append(facts)
    return found


def lines_of(pipeline: PipelineDir, with_reasons: bool = False) -> Iterator[str]:
    """Yield a line for each stage, and with reasons what has changed since it was done last."""
    record = pipeline.read_record()
    yield f"{pipeline.name}/{pipeline.id} on {record.get('cluster', 'unknown')}"
    states = states_of(pipeline)
    width = max(len(each["stage"]) for each in states)
    for each in states:
        seconds = (each["ended_at"] or time.time()) - each["started_at"] if each["started_at"] else None
        took = format_duration(seconds) if seconds is not None and each["state"] != folder.DONE_BEFORE else ""
        size = format_bytes(each["bytes"]) if each["bytes"] else ""
        detail = each.get("detail") or (each.get("job", "") if each.get("job") in (*ACTIVE, RUNNING) else "")
        mark = _MARKS.get(each["state"], " ")
        yield f"  [{mark}] {each['stage']:<{width}}  {each['state']:<11}  {took:>10}  {size:>9}  {detail}".rstrip()
        if with_reasons:
            yield from (f"        {reason}" for reason in each["why"])
            if each["results"]:
                yield f"        {each['results']}"


def mermaid(pipeline: PipelineDir) -> str:
    """Return the stages and what they need as a graph in the language Mermaid, which GitHub and many editors draw."""
    lines = ["graph LR"]
    for each in states_of(pipeline):
        size = f"<br>{format_bytes(each['bytes'])}" if each["bytes"] else ""
        lines.append(f'  {each["stage"]}["{each["stage"]}<br>{each["state"]}{size}"]')
        lines += [f"  {need} --> {each['stage']}" for need in each["needs"]]
    return "\n".join(lines)
