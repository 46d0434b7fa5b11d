"""The page about preprocessing runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hpctrain.kinds.catalogue.section import CatalogueSection

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "preprocessing.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_one_after_the_other():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "preprocessing.md", "exec"), names)


def test_the_profile_of_the_page_is_valid():
    text = PAGE[PAGE.index("    data:\n") : PAGE.index("Fluxes become asinh")]
    data = CatalogueSection.model_validate(yaml.safe_load(text)["data"])
    assert data.extinction is not None
    assert data.asinh_magnitudes["flux_g"].zero_point == 22.5
