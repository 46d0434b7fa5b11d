"""What a trace says about the time of a step: the parts of the host, the GPU, kernels and operators."""

from __future__ import annotations

import pytest

from hpctrain.traces.summary import summarise_trace
from hpctrain.traces.words import in_words, kernel_rows


def event(cat, name, begin_us, end_us, tid=1, **args):
    return {"ph": "X", "cat": cat, "name": name, "ts": begin_us, "dur": end_us - begin_us, "tid": tid, "args": args}


def label(name, begin_us, end_us):
    return event("user_annotation", f"hpctrain: {name}", begin_us, end_us)


def steps_of_a_host():
    """Two steps of 90 µs with 20 µs in between; the second waits 30 µs in its backward pass for the other ranks."""
    return [
        {"ph": "M", "name": "process_name", "ts": 0},
        label("step 7", 0, 90), label("loader", 0, 10), label("forward", 10, 30), label("backward", 30, 70),
        label("optimiser", 70, 80), event("user_annotation", "forward", 12, 20),
        label("step 8", 110, 200), label("loader", 110, 120), label("forward", 120, 140), label("backward", 140, 190),
        label("gradient complete", 160, 161), label("optimiser", 190, 200),
    ]  # fmt: skip


def test_the_parts_of_the_host_add_up_to_the_time_and_waiting_for_peers_is_no_backward_pass():
    found = summarise_trace(steps_of_a_host())
    assert (found["first_step"], found["last_step"], found["seconds"]) == (7, 8, 200e-6)
    assert found["parts"] == {
        "loader": 20e-6, "forward": 40e-6, "backward": 60e-6, "exchange": 30e-6, "optimiser": 20e-6, "between": 20e-6,
        "other": 10e-6,
    }  # fmt: skip
    assert "device" not in found


def test_operators_of_the_cpu_count_without_what_they_call_in_each_thread():
    operators = [
        event("cpu_op", "linear", 10, 30), event("cpu_op", "addmm", 12, 27), event("cpu_op", "relu", 30, 33),
        event("cpu_op", "addmm", 12, 22, tid=2),
    ]  # fmt: skip
    found = summarise_trace(steps_of_a_host() + operators)
    assert found["kernels"] == [
        {"name": "addmm", "seconds": 25e-6, "calls": 2},
        {"name": "linear", "seconds": 5e-6, "calls": 1},
        {"name": "relu", "seconds": 3e-6, "calls": 1},
    ]
    assert kernel_rows(found)[0] == ("12 %", "1", "addmm")


def test_a_gpu_is_idle_while_nothing_runs_on_it_and_its_work_belongs_to_the_part_that_started_it():
    device = [
        event("cuda_runtime", "cudaLaunchKernel", 12, 13, correlation=1),
        event("kernel", "gemm", 20, 60, 9, correlation=1),
        event("cuda_runtime", "cudaLaunchKernel", 35, 36, tid=3, correlation=2),
        event("kernel", "gemm", 60, 80, 9, correlation=2),
        event("cuda_runtime", "cudaLaunchKernel", 38, 39, correlation=3),
        event("kernel", "ncclDevKernel_AllReduce", 70, 110, 10, correlation=3),
        event("cuda_runtime", "cudaMemcpyAsync", 3, 4, correlation=4),
        event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 5, 15, 11, correlation=4),
        event("gpu_memset", "Memset (Device)", 190, 200, 9, correlation=5),
    ]  # fmt: skip
    found = summarise_trace(steps_of_a_host() + device)
    assert found["device"] == {
        "busy_s": 110e-6, "idle_share": 0.45, "nccl_s": 40e-6, "nccl_alone_s": 30e-6, "to_device_s": 10e-6,
        "other_copies_s": 0.0, "parts": {"loader": 10e-6, "forward": 40e-6, "backward": 60e-6, "other": 10e-6},
    }  # fmt: skip
    assert found["kernels"][0] == {"name": "gemm", "seconds": 60e-6, "calls": 2}
    words = "\n".join(in_words({**found, "rank": 0, "device_name": "NVIDIA H100"}))
    assert "steps 7 to 8 on rank 0 (NVIDIA H100): 0.1 ms a step" in words
    assert "the GPU computed or copied 55 % of the time" in words
    assert "exchange of gradients (NCCL): 20 % of the time, of which 75 % while nothing else was computed" in words


def test_a_trace_without_steps_is_refused():
    with pytest.raises(ValueError, match="no labels of steps"):
        summarise_trace([event("cpu_op", "addmm", 0, 1)])
