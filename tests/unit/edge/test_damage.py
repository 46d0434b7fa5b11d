"""An export that was calibrated absurdly is caught by the gates, and a sound one is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from export_parts import CARD, CONVOLUTIONAL

from hpctrain.edge.gates import failures, judge, make_bins
from hpctrain.edge.quantise import calibrate, name_operations, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.see import fit_ordinary, observed, see_in_pytorch, see_through_runtime, with_meaning
from hpctrain.profile.sections.edge import EdgeSection, GatesSection

EDGE = EdgeSection(gates=GatesSection(latent_error=0.1, chi2=0.05, anomaly_rank=0.9))
ROWS = np.arange(160)


@pytest.fixture
def section():
    return CONVOLUTIONAL


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "broken"), [(1.0, set()), (0.05, {"latent_error", "anomaly_rank"})])
def test_ranges_far_too_small_break_the_gates(graph, model, network, spectra, prepared, tmp_path, factor, broken):
    layers = name_operations(graph, graph)
    calibration = calibrate(graph, layers, prepared.feeds, tmp_path)
    absurd = replace(calibration, largest={name: factor * value for name, value in calibration.largest.items()})
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, absurd, for_tensorrt=False)

    latents, chi2 = see_in_pytorch(model, CARD, spectra, ROWS)
    at = observed(spectra, ROWS, network.preparation)
    judged = latents, chi2, *at
    ordinary = fit_ordinary(judged, judged, 1)
    before = with_meaning(latents, chi2, at, ordinary, None)
    found = see_through_runtime(OnnxNetwork(path), network.preparation, spectra, ROWS)
    usable = np.isfinite(chi2)
    bins = make_bins(*at, EDGE, usable)
    verdicts = judge(before, before, with_meaning(*found, at, ordinary, None), bins, EDGE.gates, None)
    gates = {verdict.gate for verdict in failures(verdicts) if verdict.where == "all"}
    assert broken <= gates
    if not broken:
        assert not gates
