"""The names of the states of a run: the same in ``status``, ``list``, ``monitor``, ``--wait`` and the report."""

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
    PENDING: "submitted and queued; no attempt has started",
    RUNNING: "an attempt is running",
    REQUEUED: "an attempt has ended, the next one is queued",
    FINISHED: "the last step is done and the model is written",
    STOPPED: "saved and not requeued; can be resumed",
    CANCELLED: "cancelled by somebody, or a job that it had to wait for did not finish; can be resumed",
    FAILED: "ended with an error that another attempt would only repeat",
    LOST: "the heartbeat has stopped, and there is no final record; can be resumed",
    UNKNOWN: "submitted, no attempt has started, and Slurm does not know the job",
    UNREADABLE: "the run directory cannot be read",
}
"""Every state and its meaning."""

ACTIVE = (PENDING, REQUEUED, RUNNING)
"""States in which the job has its nodes or waits for them."""
OVER = (FINISHED, FAILED, CANCELLED)
"""States after which no attempt starts by itself; after the states stopped and lost, one may still start."""

SILENT_BEATS = 12
"""Number of missed heartbeats after which a run counts as lost; a node that writes a checkpoint may miss some."""
ENDED_BEATS = (FINISHED, STOPPED, FAILED)
"""States that a rank writes into its last heartbeat."""
