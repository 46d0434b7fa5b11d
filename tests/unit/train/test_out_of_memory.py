"""What a user reads when the GPU has no memory left."""

from __future__ import annotations

import pytest
import torch

from hpctrain.errors import ProfileError
from hpctrain.profile.families import profile_of
from hpctrain.rundir import RunDir
from hpctrain.train.outofmemory import advice_if_out_of_memory, out_of_memory_message


def profile(**train):
    return profile_of({"name": "run", "data": {"files": ["spectra.h5"]}, "train": train})


def test_the_advice_names_a_batch_that_keeps_the_global_batch():
    message = out_of_memory_message(profile(batch_size=96, accumulation=2), "NVIDIA A100", 39.4, 38.9, 0.4)
    assert message == (
        "96 does not fit into NVIDIA A100: this rank held 38.9 of 39.4 GiB; batch_size 48 with accumulation 4 gives "
        "the same global batch; train.gradient_checkpointing: true needs less; precision bf16 or fp16 needs less"
    )


def test_memory_of_other_processes_is_named():
    message = out_of_memory_message(profile(batch_size=96, precision="bf16"), "NVIDIA A100", 39.4, 8.0, 30.0)
    assert "and 30.0 GiB belong to other processes (nvidia-smi shows them)" in message
    assert "precision" not in message


def test_where_nothing_can_be_smaller_a_smaller_model_is_left():
    train = {"batch_size": 1, "precision": "fp16", "gradient_checkpointing": True}
    message = out_of_memory_message(profile(**train), "NVIDIA T4", 14.6, 14.5, 0.0)
    assert message.endswith("use a smaller model or a larger GPU")


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), advice_if_out_of_memory(RunDir(tmp_path), torch.device("cpu")):
        raise ZeroDivisionError


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_lack_of_memory_is_a_profile_error(tmp_path):
    run = RunDir(tmp_path)
    run.profile.write_text("name: run\ndata: {files: [spectra.h5]}\n")
    with pytest.raises(ProfileError, match="does not fit"), advice_if_out_of_memory(run, torch.device("cuda", 0)):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
