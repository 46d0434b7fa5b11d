"""The words for where a run stands: the same in ``status``, ``list``, ``monitor``, ``--wait`` and the report."""

from __future__ import annotations

NOT_SUBMITTED = "not submitted"
PENDING = "pending"
RUNNING = "running"
REQUEUED = "requeued"
FINISHED = "finished"
STOPPED = "stopped"
CANCELLED = "cancelled"
FAILED = "failed"
LOST = "lost"
UNKNOWN = "unknown"
UNREADABLE = "cannot be read"

MEANINGS = {
    NOT_SUBMITTED: "the run directory is written, no job has been submitted",
    PENDING: "submitted, waits in the queue; no attempt has started",
    RUNNING: "an attempt is running",
    REQUEUED: "an attempt has ended, the next one waits in the queue",
    FINISHED: "the last step is done and the model is written",
    STOPPED: "saved and not requeued; can be resumed",
    CANCELLED: "cancelled by somebody; can be resumed",
    FAILED: "ended with an error that another attempt would only meet again",
    LOST: "no sign of life, and no record of an end; can be resumed",
    UNKNOWN: "submitted, no attempt has started, and Slurm does not know the job",
    UNREADABLE: "the run directory cannot be read",
}
"""Every state, and what it means."""

ACTIVE = (PENDING, REQUEUED, RUNNING)
"""States in which the job still has, or waits for, its nodes."""
OVER = (FINISHED, FAILED, CANCELLED)
"""States that no further attempt follows by itself; a run that was stopped or lost may well come back."""

SILENT_BEATS = 12
"""Heartbeats that may be missed before a run counts as lost: a node busy with a checkpoint is slow, not dead."""
ENDED_BEATS = (FINISHED, STOPPED, FAILED)
"""States that a rank writes into its last heartbeat."""
