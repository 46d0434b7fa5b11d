"""A bundle brings spectra with their results, and a device that gets other results is found before it is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from export_parts import CARD, CONVOLUTIONAL, SECTION
from machines import Machine

from hpctrain.edge.bundle import write_reference
from hpctrain.edge.quantise import calibrate, name_operations, write_fp16, write_int8
from hpctrain.edge.reference import LEAST_TOLERANCE, Deviation, Reference, device_name
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.see import see_in_pytorch

ROWS = np.arange(8)
CPU = ["CPUExecutionProvider"]


pytestmark = pytest.mark.slow  # an export takes seconds


@pytest.fixture(
    params=[pytest.param(SECTION, id="least squares"), pytest.param(CONVOLUTIONAL, id="convolutions")],
)
def section(request):
    return request.param


@pytest.fixture
def reference(spectra, model):
    latents, chi2 = see_in_pytorch(model, CARD, spectra, np.arange(48))
    rows = np.flatnonzero(np.isfinite(chi2))[:8]
    batch = spectra.read(rows)
    return Reference(
        flux=batch.flux.numpy().copy(),
        ivar=batch.ivar.numpy().copy(),
        wavelength_aa=batch.wavelength_aa.numpy().astype("f8"),
        redshift=batch.redshift.numpy().astype("f8"),
        latents=latents[rows],
        chi2=chi2[rows],
        spread=np.nanstd(latents, axis=0),
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("fused", [True, False])
def test_every_precision_agrees_within_what_the_export_measures(
    graph, reference, network, prepared, tmp_path, precision, fused
):
    path = tmp_path / "made.onnx"
    if precision == "fp32":
        path.write_bytes(graph.read_bytes())
    elif precision == "fp16":
        write_fp16(graph, path)
    else:
        layers = name_operations(graph, graph)
        calibration = calibrate(graph, layers, prepared.feeds, tmp_path)
        write_int8(graph, path, layers, calibration, for_tensorrt=False)
    found = reference.deviation(network.preparation, OnnxNetwork(path, CPU, fused=fused))
    limit = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.4}[precision]
    assert found.latents < limit
    other = reference.deviation(network.preparation, OnnxNetwork(path, CPU, fused=not fused))
    assert not other.exceeds(found.tolerated())


def test_batches_of_any_size_compare_the_same(graph, reference, network):
    compute = OnnxNetwork(graph, CPU)
    one, all_at_once = (reference.deviation(network.preparation, compute, size) for size in (1, 16))
    assert one.latents == pytest.approx(all_at_once.latents, abs=1e-4)


class Wrong:
    """A device that is right but for one latent, or that computes NaN."""

    def __init__(self, network, change):
        self._network, self._change = network, change

    def __call__(self, feeds):
        outputs = self._network(feeds)
        latents = outputs["latents"].copy()
        latents[1, 2] = self._change(latents[1, 2])
        return {**outputs, "latents": latents}


@pytest.mark.parametrize("change", [lambda value: value + 0.1, lambda value: np.nan], ids=["shifted", "not a number"])
def test_one_wrong_latent_of_one_spectrum_is_enough(graph, reference, network, change):
    exact = OnnxNetwork(graph, CPU)
    tolerance = reference.deviation(network.preparation, exact).tolerated()
    assert tolerance.latents == pytest.approx(LEAST_TOLERANCE, abs=1e-3)
    wrong = reference.deviation(network.preparation, Wrong(exact, change))
    assert wrong.exceeds(tolerance)


def test_a_latent_that_never_varies_is_not_compared(graph, reference, network):
    flat = replace(reference, spread=reference.spread * np.array([1, 1, 0], dtype="f4"))
    found = flat.deviation(network.preparation, Wrong(OnnxNetwork(graph, CPU), lambda value: value + 9.0))
    assert found.latents < LEAST_TOLERANCE


def test_it_is_read_back_from_the_bundle_and_older_bundles_have_none(reference, tmp_path):
    made = replace(reference, tolerance=Deviation(0.03, 0.04))
    write_reference(tmp_path, None, None, made)
    with np.load(tmp_path / "reference.npz") as arrays:
        read = Reference.from_arrays(dict(arrays))
    assert read.tolerance == made.tolerance
    for name in ("flux", "ivar", "wavelength_aa", "redshift", "latents", "chi2", "spread"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert Reference.from_arrays({}) is None
    with pytest.raises(ValueError, match="do not fit together"):
        Reference.from_arrays({**made.to_arrays(), "reference_chi2": np.zeros(3)})


def test_the_device_is_named_by_its_board_or_its_cpu(tmp_path):
    (tmp_path / "proc").mkdir()
    assert device_name(tmp_path)  # neither: the architecture
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B12\n")
    assert device_name(tmp_path) == "AMD EPYC 7B12"
    board = Machine(tmp_path / "orin", "agx-orin-64gb")
    assert "Orin" in device_name(board.root)
