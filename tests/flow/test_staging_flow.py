"""Real ranks that stage or cache their spectra: the same bits, nothing left behind, and what happens when it fails."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import h5py
import numpy as np
import pytest
from file_server import FileServer
from processes import shared_memory

MIB = 2**20


@pytest.fixture(scope="module")
def large_file(tmp_path_factory, spectra_file):
    """The small set with 20 MiB of something else in the file: three blocks to copy."""
    path = tmp_path_factory.mktemp("large") / "spectra.h5"
    path.write_bytes(spectra_file.read_bytes())
    with h5py.File(path, "a") as file:
        file["other"] = np.random.default_rng(1).integers(0, 255, 20 * MIB, dtype=np.uint8)
    return path


@pytest.fixture
def server(large_file):
    server = FileServer(large_file.read_bytes())
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _nothing_left_in_shared_memory():
    before = shared_memory()
    yield
    assert shared_memory() == before


@pytest.fixture(scope="module")
def _references():
    return {}


@pytest.fixture
def reference(_references, make_run, start):
    """Return a function that gives the model of a run that reads its file where it is; each is run once."""

    def model(world_size=1):
        if world_size not in _references:
            run = make_run("reference", launch={"ranks_per_node": world_size})
            assert start(run, world_size).wait() == [0] * world_size
            _references[world_size] = model_of(run)
        return _references[world_size]

    return model


def model_of(run):
    return (run.model / "model.safetensors").read_bytes()


def events(run, name):
    return [record for record in run.read_metrics("event") if record["event"] == name]


def copies(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_staged_run_ends_with_the_bits_of_one_that_was_not(make_run, start, reference, tmp_path, world_size):
    launch = {"ranks_per_node": world_size}
    staged = make_run("staged", launch=launch, data={"stage": "${NODE_DISK}/a"})
    ranks = start(staged, world_size, NODE_DISK=str(tmp_path / "node"))
    assert ranks.wait() == [0] * world_size, ranks.stderr
    assert model_of(staged) == reference(world_size)
    assert max(record["step"] for record in staged.read_metrics("train")) == events(staged, "finished")[0]["step"]
    [event] = events(staged, "staged")
    assert (event["files"], event["nodes"]) == (1, 1)
    assert event["bytes"] == event["copied_bytes"] > 0
    assert copies(tmp_path / "node") == ["record.json", "spectra.h5"]
    with h5py.File(staged.results / "latents.h5") as file:  # results name the original: copies go
        assert list(file.attrs["source_files"]) == staged_files(staged)


def staged_files(run):
    from hpctrain.profile.load import load_profile

    return load_profile(run.profile).data.files


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_packed_file_decoded_into_memory_gives_the_bits_of_a_contiguous_one(
    make_run, start, reference, tmp_path, spectra_file, world_size
):
    packed = tmp_path / "packed.h5"
    with h5py.File(spectra_file) as source, h5py.File(packed, "w") as file:
        for name, column in source.items():
            layout = {"chunks": (16, column.shape[1]), "compression": "gzip"} if column.ndim == 2 else {}
            file.create_dataset(name, data=column[...], **layout)
    launch = {"ranks_per_node": world_size}
    cached = make_run("cached", launch=launch, data={"files": [str(packed)], "cache": "ram", "stage": str(tmp_path)})
    ranks = start(cached, world_size)
    assert ranks.wait() == [0] * world_size, ranks.stderr
    assert model_of(cached) == reference(world_size)
    assert events(cached, "cached")[0]["bytes"] > 300 * 200 * 8


def test_a_cached_run_that_is_cut_goes_on_with_the_same_bits(make_run, start, reference):
    cut = make_run(data={"cache": "ram"})
    ranks = start(cut)
    wait_until(lambda: list(cut.checkpoints.glob("step-*")))
    ranks.kill()
    assert start(cut).wait() == [0]
    assert model_of(cut) == reference()


def test_a_rank_that_dies_while_it_holds_the_memory_takes_it_along(make_run, start):
    run = make_run(launch={"ranks_per_node": 2}, data={"cache": "ram"}, train={"epochs": 10000})
    ranks = start(run, 2)
    ranks.wait_for_step(3)
    assert holders(ranks) == 2
    ranks.signal(signal.SIGKILL, [0])
    assert ranks.wait() == [-9, 76], ranks.stderr
    assert holders(ranks) == 0


def holders(ranks):
    """Count the processes that have the memory open."""
    found = 0
    for process in ranks.processes:
        with contextlib.suppress(OSError):
            folder = f"/proc/{process.pid}/fd"
            found += any("hpctrain-spectra" in os.readlink(f"{folder}/{name}") for name in os.listdir(folder))
    return found


def wait_until(condition, timeout_s=600):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stalled(make_run, start, server, tmp_path, world_size=1):
    """Return a run whose file stands still after two of its three blocks, and its ranks."""
    server.stands_after = 17 * MIB
    launch = {"ranks_per_node": world_size}
    run = make_run(launch=launch, data={"files": [f"{server.url}/spectra.h5"], "stage": str(tmp_path / "node")})
    ranks = start(run, world_size)
    wait_until(lambda: sum(path.stat().st_size for path in (tmp_path / "node").rglob("part")) >= 16 * MIB)
    return run, ranks


def test_a_remote_run_killed_in_the_middle_of_fetching_goes_on_there(make_run, start, reference, server, tmp_path):
    run, ranks = stalled(make_run, start, server, tmp_path, 2)
    ranks.signal(signal.SIGKILL, [0])
    assert ranks.wait() == [-9, 76], ranks.stderr
    server.release()
    again = start(run, 2)
    assert again.wait() == [0, 0], again.stderr
    assert f"bytes={16 * MIB}-" in server.ranges
    assert model_of(run) == reference(2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR2, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_while_files_are_fetched_leaves_at_once_and_loses_nothing(
    make_run, start, server, tmp_path, number, code
):
    run, ranks = stalled(make_run, start, server, tmp_path, 2)
    ranks.signal(number, [1])
    server.trickles = True  # a few bytes more arrive, and the copier looks up
    assert ranks.wait() == [code, code], ranks.stderr
    server.release()
    assert events(run, "stopped")[0]["exit_code"] == code
    assert copies(tmp_path / "node") == ["checks", "part"]
    again = start(run, 2)
    wait_until(lambda: f"bytes={16 * MIB}-" in server.ranges)
    wait_until(lambda: "spectra.h5" in copies(tmp_path / "node"))
    again.kill()


def test_a_file_that_is_not_there_ends_all_ranks_with_the_same_words(make_run, start, server, tmp_path):
    data = {"files": [f"{server.url}/missing.h5"], "stage": str(tmp_path / "node")}
    ranks = start(make_run(launch={"ranks_per_node": 2}, data=data), 2)
    assert ranks.wait() == [4, 4]
    assert ranks.stderr.count("missing.h5: the server answers 404") == 2
    assert "Traceback" not in ranks.stderr


def test_a_variable_that_is_not_set_on_the_node_ends_all_ranks(make_run, start):
    ranks = start(make_run(launch={"ranks_per_node": 2}, data={"stage": "${NO_SUCH_VARIABLE}/x"}), 2)
    assert ranks.wait() == [2, 2]
    assert ranks.stderr.count("data.stage: ${NO_SUCH_VARIABLE} is not set on node") == 2
    assert "Traceback" not in ranks.stderr


def test_a_full_disk_costs_the_copy_and_not_the_run(make_run, start, reference, tiny_disk):
    staged = make_run("staged", data={"stage": str(tiny_disk)})
    ranks = start(staged)
    assert ranks.wait() == [0], ranks.stderr
    assert "reads the originals" in ranks.stderr
    assert "no room" in events(staged, "stage_fell_back")[0]["reason"]
    assert model_of(staged) == reference()


def test_a_full_disk_ends_a_run_that_requires_staging(make_run, start, tiny_disk):
    ranks = start(make_run(data={"stage": str(tiny_disk), "stage_required": True}))
    assert ranks.wait() == [3]
    assert "no room" in ranks.stderr
    assert "Traceback" not in ranks.stderr
