"""``model.weights``: files of timm and of others, runs of our own, and files that are refused."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import TINY, profile_values
from kinds.images import tiny_file
from safetensors.torch import save_file

from hpctrain.commands.local import _network_of
from hpctrain.errors import CheckpointError
from hpctrain.families.family import TrainingSamples
from hpctrain.families.image_cnn.encoders.names import misfits, renamed
from hpctrain.families.image_cnn.encoders.plans import PLANS, Shape
from hpctrain.families.image_cnn.encoders.tensors import read_tensors
from hpctrain.families.image_cnn.pretrained import shares_of_bands
from hpctrain.families.store import save_model
from hpctrain.launch.submit import with_absolute_paths
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.load import dump_profile

CNN = TINY["image_cnn"]
LITE = "tf_efficientnet_lite0"


def made(path: Path, shared: Any = None, **model: Any) -> SimpleNamespace:
    """Return a network, the images as a prepared batch, and what a start looks at."""
    values = profile_values(CNN, path)
    profile = profile_of({**values, "model": {**values["model"], **model}})
    family, kind = family_of(profile), kind_of(profile)
    samples = kind.open(profile.data)
    rows = np.arange(len(samples))
    section = family.settle(profile.model, samples, rows)
    samples.labels = family.labels(section, samples)
    facts, prepare = kind.facts(samples, rows), kind.preparation(profile.data.card_entries)
    torch.manual_seed(1)
    training = TrainingSamples(
        rows, lambda chosen: iter([prepare(samples.read(chosen))]), prepare, torch.device("cpu"), 1
    )
    network = shared or family.network(section, facts)
    return SimpleNamespace(
        network=network,
        section=section,
        facts=facts,
        training=training,
        family=family,
        batch=prepare(samples.read(rows)),
        load=lambda: list(family.start(network, section, training)),
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tiny_file(tmp_path_factory.mktemp("images") / "a.h5", num=8, side=32)


@pytest.fixture(scope="module")
def lite(images):
    """A network with the encoder `LITE`, which is slow to build."""
    torch.manual_seed(2)
    return made(images, encoder=LITE).network


def weights_of(network: Any) -> dict[str, torch.Tensor]:
    """Return other values for the tensors of an encoder, and a classifier."""
    found = {name: 1 + 0.25 * value for name, value in network.encoder.state_dict().items()}
    return {**found, "classifier.weight": torch.ones(5, 1280), "bn1.num_batches_tracked": torch.tensor(7)}


def as_efficientnet_pytorch(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the same tensors with the names of EfficientNet-PyTorch, whose files have this order too."""
    places = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in weights if name.startswith("blocks.")))
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    wide = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    wide |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    found = {}
    for name, value in weights.items():
        parts = name.split(".")
        if parts[0] != "blocks":
            found[".".join([outside[parts[0]], *parts[1:]])] = value
            continue
        number = places.index(".".join(parts[:3]))
        found[f"_blocks.{number}.{(wide if number else first)[parts[3]]}.{parts[4]}"] = value
    return found


def header_only(path: Path, tensors: Mapping[str, Shape]) -> Path:
    """Write a .safetensors file whose values are a hole in the file, so that it needs no room."""
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return path


@pytest.mark.parametrize("form", ["timm", "checkpoint of a training", "EfficientNet-PyTorch"])
def test_a_run_starts_from_the_weights_of_a_file(images, lite, tmp_path, form):
    weights, path = weights_of(lite), tmp_path / "w.pth"
    if form == "timm":
        path = tmp_path / "w.safetensors"
        save_file(weights, path)
    elif form == "EfficientNet-PyTorch":
        torch.save(as_efficientnet_pytorch(weights), path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    it = made(images, shared=lite, encoder=LITE, weights=str(path))
    assert it.family.has_start(it.section)
    it.load()
    for name, value in it.network.encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_bands_become_colours_as_bright_as_the_encoder_learned_them(images, lite, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(weights_of(lite), path)
    it = made(images, shared=lite, encoder=LITE, weights=str(path))
    it.load()
    pixels = it.batch.image[it.batch.weight > 0].numpy()
    black, white = np.percentile(pixels, [5.0, 99.8])
    with torch.no_grad():
        x = torch.zeros(1, 3, 1, 2)
        x[0, :2, 0, 0], x[0, :2, 0, 1] = float(black), float(white)
        seen = it.network.colours(x)[0, :, 0].numpy()
    np.testing.assert_allclose(seen, [[-1, 1]] * 3, atol=1e-5)  # the colours of this encoder are 0.5 ± 0.5


def test_blue_is_the_first_band_of_a_survey_and_pictures_keep_their_colours():
    assert shares_of_bands(("g", "r", "i")).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert shares_of_bands(("R", "G", "B")).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert shares_of_bands(("g", "r", "i", "z")).tolist() == [[0, 0, 0, 1], [0, 0.5, 0.5, 0], [1, 0, 0, 0]]
    assert shares_of_bands(("L",)).tolist() == [[1], [1], [1]]


@pytest.mark.slow
def test_an_encoder_skips_masked_pixels_averages_views_and_can_recompute_its_blocks(images):
    it = made(images, encoder="tf_efficientnet_lite0", views=8)
    hidden = it.batch.weight == 0
    changed = it.batch.replace(image=torch.where(hidden, 1e30, it.batch.image))
    with torch.no_grad():
        it.network.eval()
        assert torch.equal(it.network.features(changed), it.network.features(it.batch))
        turned = it.batch.replace(image=it.batch.image.rot90(1, (2, 3)), weight=it.batch.weight.rot90(1, (2, 3)))
        torch.testing.assert_close(it.network.features(turned), it.network.features(it.batch), rtol=1e-3, atol=1e-4)
    gradients = []
    for again in (False, True):
        it.network.train().gradient_checkpointing = again
        it.network.zero_grad()
        torch.manual_seed(3)
        it.network(it.batch, 0)["loss_sum"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in it.network.parameters()]))
    torch.testing.assert_close(*gradients)


def test_a_run_starts_from_a_run_with_other_labels(images, tmp_path):
    other = made(images, labels=[{"column": "size", "kind": "value"}])
    save_model(tmp_path / "run" / "model", other.network, other.section, other.facts, {})
    it = made(images, weights=str(tmp_path / "run"))
    heads = it.network.heads.state_dict()
    before = {name: value.clone() for name, value in heads.items()}
    assert not torch.equal(it.network.stem.weight, other.network.stem.weight)
    it.load()
    assert torch.equal(it.network.stem.weight, other.network.stem.weight)
    assert all(torch.equal(value, before[name]) for name, value in it.network.heads.state_dict().items())
    wider = made(images, weights=str(tmp_path / "run"), channels=[4, 16])
    with pytest.raises(CheckpointError, match=r"another network(.|\n)*has shape \(8, 4, 3, 3\), but") as caught:
        wider.load()
    assert "blocks.1.conv1.weight" in str(caught.value)


def test_a_file_that_needs_code_to_be_read_is_refused_and_runs_none(tmp_path):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Code()}))
    torch.save({"conv1.weight": Code()}, tmp_path / "new.pth")
    for each in (path, tmp_path / "new.pth"):
        with pytest.raises(CheckpointError, match="runs no code of a file"):
            read_tensors(each)
    assert not (tmp_path / "ran").exists()
    torch.save({"epoch": 3}, path)
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        read_tensors(path)


def test_weights_of_another_encoder_are_refused_with_all_differences():
    found = dict(PLANS["resnet34"].tensors())
    lines = misfits(renamed(found, PLANS["resnet18"]), PLANS["resnet18"])
    assert lines[0] == "layer1.2.conv1.weight: is not in this encoder"
    assert lines[-1] == "... and 72 more"
    found["conv1.weight"] = (64, 1, 7, 7)
    del found["bn1.bias"]
    lines = misfits(found, PLANS["resnet34"])
    assert lines == ["bn1.bias: is missing", "conv1.weight: has shape (64, 1, 7, 7), not (64, 3, 7, 7)"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    header_only(folder / "resnet18.safetensors", dict(PLANS["resnet18"].tensors()))
    header = (folder / "resnet18.safetensors").read_bytes()[:20_000]
    (folder / "cut.safetensors").write_bytes(header[:500])
    (folder / "half.safetensors").write_bytes(header)
    (folder / "run" / "model").mkdir(parents=True)
    card = {"section": {"family": "image_cnn", "channels": [4, 8], "hidden": [8], "blocks": 2}}
    (folder / "run" / "model" / "model.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("model", "where", "said"),
    [
        ({"encoder": "resnet18"}, "model.encoder", "set model.weights to a file of them"),
        ({"encoder": "resnet18", "weights": "resnet81.safetensors"}, "model.weights", "did you mean"),
        ({"encoder": "resnet18", "weights": "cut.safetensors"}, "model.weights", "is not a whole .safetensors file"),
        ({"encoder": "resnet18", "weights": "half.safetensors"}, "model.weights", "it ends at 20,000 of 44,"),
        ({"encoder": "resnet34", "weights": "resnet18.safetensors"}, "model.weights", "they are those of resnet18:"),
        ({"weights": "resnet18.safetensors"}, "model.weights", "set model.encoder to resnet18"),
        ({"weights": "run"}, "model.weights", "has model.blocks: 2, but this profile has 1; use the same"),
        ({"encoder": "convnext_nano", "channels": [4]}, "model.channels", "is for encoder residual"),
        ({"encoder": "resnet50_gn"}, "model.encoder", "makes one pixel of 32, but an image has 12"),
    ],
)
def test_wrong_weights_are_one_problem_with_its_place(files, tmp_path, model, where, said):
    is_small = model == {"encoder": "resnet50_gn"}
    values = profile_values(CNN, tiny_file(tmp_path / "a.h5", num=8), data={"crop": 12} if is_small else {})
    if "encoder" in model:
        values["model"] = {key: value for key, value in values["model"].items() if key != "channels"}
    if "weights" in model:
        model = {**model, "weights": str(files / model["weights"])}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**values, "model": {**values["model"], **model}}))
    [problem] = check_profile(tmp_path / "p.yaml", memory=False).problems
    assert problem.where == where
    assert said in problem.message


@pytest.mark.slow
def test_the_check_reads_a_pth_file_without_running_it(lite, tmp_path, warm_python):
    weights, good = weights_of(lite), tmp_path / "good.pth"
    torch.save(weights, good)
    bad = tmp_path / "bad.pth"
    bad.write_bytes(pickle.dumps(SimpleNamespace(a=1)))
    values = profile_values(CNN, tiny_file(tmp_path / "a.h5", num=8, side=32))
    values["model"] = {
        "family": "image_cnn",
        "labels": values["model"]["labels"],
        "encoder": LITE,
        "weights": str(good),
    }
    assert not check_profile(values, memory=False).problems
    values["model"] |= {"weights": str(bad)}
    [problem] = check_profile(values, memory=False).problems
    assert "runs no code of a file" in problem.message


def test_a_run_that_has_begun_needs_the_file_no_longer(images, tmp_path):
    values = profile_values(CNN, images)
    labels = values["model"]["labels"]
    profile = profile_of({**values, "model": {"family": "image_cnn", "labels": labels, "encoder": LITE}})
    model = profile.model.model_copy(update={"weights": str(tmp_path / "gone.pth")})
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(profile.model_copy(update={"model": model})))  # with all keys, as a run has it
    assert [problem.where for problem in check_profile(path, memory=False).problems] == ["model.weights"]
    (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    assert not check_profile(path, memory=False).problems


def test_a_run_from_the_network_of_another_one_does_not_read_the_file_of_that(images, tmp_path):
    it = made(images)
    section = it.section.model_copy(update={"weights": "w.pth"})
    save_model(tmp_path / "model", it.network, section, it.facts, {})
    overrides = _network_of(tmp_path)
    assert "model.weights=null" in overrides
    assert "model.channels=[4, 8]" in overrides


def test_a_submission_makes_the_path_of_the_weights_absolute(images, tmp_path):
    profile = profile_of(profile_values(CNN, images))
    profile = profile.model_copy(update={"model": profile.model.model_copy(update={"weights": "../w.pth"})})
    assert with_absolute_paths(profile, tmp_path / "a").model.weights == str(tmp_path / "w.pth")
