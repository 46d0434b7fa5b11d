"""The memory estimate against what training really takes, and against torch's own tracker."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.kinds.spectra.facts import DESI_GRID, SpectraFacts
from hpctrain.kinds.spectra.fake import fake_batch
from hpctrain.profile.families import profile_of
from hpctrain.profile.schema import Profile
from hpctrain.train.memory import GIB, measure, measure_peak_bytes, measure_step

FACTS = SpectraFacts(2000, (3600.0, 9824.0), 0.0, 3.0, 6712.0)

REAL_RUN = """
import itertools
import json
import sys
import torch
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.kinds.spectra.kind import KIND
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.fake import fake_batch
from hpctrain.profile.families import profile_of
from hpctrain.train.build import build_network, build_optimizer
from hpctrain.train.pacing import FullSpeed
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule
from hpctrain.train.step import UpdateStep

torch.set_num_threads(1)
device = torch.device("cpu")
facts = SpectraFacts(2000, (3600.0, 9824.0), 0.0, 3.0, 6712.0)
profile = profile_of(json.loads(sys.argv[1]))

def memory(key):
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith(key)).split()[1])

def train(batch_size):
    section = profile.train.model_copy(update={"batch_size": batch_size})
    one = profile.model_copy(update={"train": section})
    model = build_network(one, one.model, facts, device)
    update = UpdateStep(World(), Schedule(one, 100_000), section, model,
                        build_optimizer(model, section), LossScale("fp32", device), None, StopRequest(), FullSpeed(),
                        KIND.preparation(one.data.card_entries), KIND.augmentation(one.data), KIND)
    for step in range(2):
        update(step, (fake_batch(facts, batch_size) for _ in itertools.count()))

train(2)  # libraries, thread pools, compiled kernels
before = memory("VmRSS")
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
train(profile.train.batch_size)
print(memory("VmHWM") - before)
"""


def small_profile(**train: Any) -> Profile:
    return profile_of(
        {
            "name": "x",
            "data": {"files": ["absent.h5"]},
            "launch": {"gpus_per_node": 0},
            "model": {"encoder_channels": [32, 64, 128]},
            "train": train,
        }
    )


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_estimate_is_within_10_per_cent_of_what_training_really_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The growth of a real process over two real updates of the real network."""
    profile = small_profile(batch_size=96, accumulation=2)
    # Every tensor of 64 kB and more in pages of its own, which go back to the system when it is freed.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    done = subprocess.run(
        [sys.executable, "-c", REAL_RUN, profile.model_dump_json()], capture_output=True, text=True, check=True
    )
    real = int(done.stdout)
    estimated, _ = measure_peak_bytes(profile, FACTS, 96)
    assert estimated == pytest.approx(real, rel=0.1), f"{estimated / GIB:.3f} of {real / GIB:.3f} GiB"


@pytest.mark.slow
def test_the_estimate_agrees_with_torchs_own_tracker() -> None:
    """Forward, backward and two moments, without the temporaries of clipping, which both see alike."""
    from torch.distributed._tools.mem_tracker import MemTracker  # its import takes two seconds, here only

    profile = small_profile(batch_size=64)
    ours, _ = measure_peak_bytes(profile, FACTS, 64)
    with FakeTensorMode():
        model = SpectralVAE(profile.model, FACTS)
        optimizer = torch.optim.Adam(model.parameters(), foreach=False)
        batch = fake_batch(FACTS, 64)
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        with tracker:
            for iteration in range(2):
                model(batch)["loss_sum"].backward()
                optimizer.step()
                optimizer.zero_grad()
                if iteration == 0:
                    tracker.reset_mod_stats()
    theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert ours == pytest.approx(theirs, rel=0.03)


@pytest.mark.slow
def test_the_work_of_a_pass_is_what_torchs_own_counter_finds() -> None:
    """Matrix products and convolutions, forwards and backwards."""
    from torch.utils.flop_counter import FlopCounterMode

    profile = small_profile(batch_size=64)
    work = measure_step(profile, FACTS, 64)[2]
    with FakeTensorMode():
        model, batch = SpectralVAE(profile.model, FACTS), fake_batch(FACTS, 64)
        with FlopCounterMode(display=False) as counter:
            model(batch)["loss_sum"].backward()
    assert work.flop == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert work.made_bytes > 64 * 4 * FACTS.num_pixels
    assert work.kernels > 10


@pytest.mark.slow
def test_the_line_holds_at_other_batch_sizes() -> None:
    """Two points and a floor stand for all sizes."""
    found = measure(small_profile(batch_size=128))
    for batch_size in (1, 16, 200, 2000):
        peak = measure_peak_bytes(small_profile(), DESI_GRID, batch_size)[0] / GIB
        model = max(found.floor_gib, found.fixed_gib + found.per_sample_gib * batch_size)
        assert model == pytest.approx(peak, rel=0.05)


@pytest.mark.slow
def test_what_should_cost_memory_does() -> None:
    """Half precision and checkpointing save, averages and accumulation cost what they hold."""

    def peak(**train: Any) -> int:
        return measure_peak_bytes(small_profile(**train), FACTS, 64)[0]

    plain, weights = measure_peak_bytes(small_profile(), FACTS, 64)
    assert peak(precision="bf16") < 0.8 * plain
    assert peak(gradient_checkpointing=True) < plain
    assert peak(ema_decay=0.99) == pytest.approx(plain + 4 * weights, rel=0.01)
    assert plain < peak(accumulation=4) < plain + 8 * weights
    assert peak(compile=True) == plain
