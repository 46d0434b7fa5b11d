"""Rules about memory that was not enough."""

from __future__ import annotations

from hpctrain.advice.advice import FAILURE, Advice, Change
from hpctrain.advice.summary import Option, RunSummary
from hpctrain.metrics.events import Failed, Finished, MemoryShort

_GPU_WORDS = r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"
_HOST_WORDS = (
    r"oom[-_ ]kill|OUT_OF_MEMORY|(?<!CUDA )Out Of Memory|exceeded memory limit|OOMKilled|cannot allocate memory"
)


def gpu_out_of_memory(run: RunSummary) -> Advice | None:
    """The memory of a GPU was not enough."""
    failed = run.newest(Failed)
    error = (failed.error or "") if failed else ""
    seen = run.in_log(_GPU_WORDS)
    if "does not fit into" in error:
        seen = error.splitlines()[-1].strip()[:160]
    if not seen or run.newest(Finished):
        return None
    option = _gentlest(run)
    if option is not None:
        changes = tuple(Change(key, value) for key, value in option.changes.items())
        gain = f"about {option.needed_gib:.1f} of {run.available_gib:.1f} GiB, by an estimate"
    else:
        changes = _smaller_batch(run)
        gain = "about half the memory of activations; the global batch, and so the training, stays the same"
    others = [f"{_as_text(other)} needs {other.needed_gib:.1f} GiB" for other in run.options if other is not option]
    return Advice(
        FAILURE,
        f"the GPU ran out of memory ({seen})",
        "the activations of a micro-batch need the most memory, and grow with its size",
        gain,
        changes,
        "; ".join(others),
    )


def _gentlest(run: RunSummary) -> Option | None:
    """Return the first estimated option that fits; they come in the order in which they cost time or precision."""
    fitting = (option for option in run.options if option.needed_gib <= 0.95 * (run.available_gib or 0.0))
    return next(fitting, None)


def _as_text(option: Option) -> str:
    return ", ".join(str(Change(key, value)) for key, value in option.changes.items())


def _smaller_batch(run: RunSummary) -> tuple[Change, ...]:
    size, accumulation = run.get("train.batch_size", 128), int(run.number("train.accumulation", 1))
    if not isinstance(size, int) or size < 2:
        return (Change("train.gradient_checkpointing", True),)
    smaller = next(size // divisor for divisor in range(2, size + 1) if size % divisor == 0)
    changes = [Change("train.batch_size", smaller)]
    if run.get("train.global_batch") is None:
        changes.append(Change("train.accumulation", accumulation * size // smaller))
    return tuple(changes)


def host_out_of_memory(run: RunSummary) -> Advice | None:
    """The memory of a node was not enough."""
    line, short = run.in_log(_HOST_WORDS), run.newest(MemoryShort)
    killed = any(ended.exit_code == 137 for ended in run.ended)
    if run.newest(Finished) or not (line or (short and killed)):
        return None
    seen = line or f"{short.reason if short else ''}, and a rank was killed"
    changes = [Change("data.prefetch_batches", max(1, int(run.number("data.prefetch_batches", 4)) // 2))]
    if run.get("data.cache") == "ram":
        changes = [Change("data.cache", "none")]
    asked = run.number("launch.memory_gib_per_node")
    if asked:
        changes.append(Change("launch.memory_gib_per_node", round(1.5 * asked, 1)))
    return Advice(
        FAILURE,
        f"a node ran out of memory ({seen})",
        "cached and prefetched samples and the processes of the ranks share the memory that the job asked for",
        "the kernel kills no rank any more",
        tuple(changes),
        "" if asked else "ask for more memory with launch.memory_gib_per_node",
    )
