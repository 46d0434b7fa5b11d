"""Site files: where they are found, what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctrain.cli import run_command
from hpctrain.errors import SiteError
from hpctrain.profile.site import list_sites, load_site

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of site files that is looked in first."""
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_site_says_what_its_cluster_is(sites: Path) -> None:
    """Numbers and versions of variables may be written as they are."""
    (sites / "leo.yaml").write_text(
        "description: Leo\n"
        "partitions:\n"
        "  gpu: {max_time: 1-00:00:00, gpus_per_node: 4, gpu_type: a100}\n"
        "default_partition: gpu\n"
        "gpu_option: gres\n"
        "modules: [cuda/12.6, gcc/13.2.0]\n"
        "environment: {NCCL_SOCKET_IFNAME: ib0, NCCL_IB_TIMEOUT: 22}\n"
        "setup: ['source /opt/conda/bin/activate train']\n"
        "sbatch: {account: astro, exclusive: true}\n",
        encoding="utf-8",
    )
    site = load_site("leo")
    assert site.source == "leo.yaml"
    assert site.partitions["gpu"].max_time == "24:00:00"
    assert site.partition_for(None) is site.partitions["gpu"]
    assert site.partition_for("other") is None
    assert site.environment == {"NCCL_SOCKET_IFNAME": "ib0", "NCCL_IB_TIMEOUT": 22}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition: {}\n", "line 1: partition: unknown key; did you mean 'partitions'?"),
        ("modules: [cuda; rm -rf]\n", "line 1: modules.0: found 'cuda; rm -rf'; must be text"),
        ("environment: {A-B: 1}\n", "line 1: environment.A-B: 'A-B' is not text"),
        ("environment: {A: {b: 1}}\n", "line 1: environment.A: found a mapping; must be text or a whole number"),
        ("environment: {WANDB_API_KEY: abc}\n", "line 1: environment.WANDB_API_KEY: names a credential"),
        ('setup: ["a\\nb"]\n', "line 1: setup.0: 'a\\nb' must be one line without control characters"),
        ("partitions: {gpu: {max_nodes: 0}}\n", "line 1: partitions.gpu.max_nodes: found 0; must be a whole number"),
        ("partitions: {gpu: {}}\ndefault_partition: gpus\n", "default_partition: 'gpus' is not one of partitions"),
        ("gpu_option: gpus\n", "must be one of gpus-per-node, gres"),
        ("- gpu\n", "holds a list, not a mapping"),
    ],
)
def test_a_wrong_site_is_told_where(sites: Path, text: str, message: str) -> None:
    """The same form as for profiles, with the exit code of the site."""
    (sites / "leo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SiteError) as caught:
        load_site("leo")
    assert message in str(caught.value)
    assert caught.value.exit_code == 3


def test_an_unknown_site_is_told_the_nearest_and_where_was_looked(sites: Path) -> None:
    """Which folder holds the site files is the first thing one asks."""
    (sites / "leonardo.yaml").write_text("description: x\n", encoding="utf-8")
    with pytest.raises(SiteError, match=r"there is no site 'leonrdo'; did you mean 'leonardo'\? \(looked in "):
        load_site("leonrdo")


def test_every_site_that_is_shipped_can_be_loaded(sites: Path) -> None:
    """Examples that do not load teach nothing."""
    for path in sorted((REPOSITORY / "slurm" / "sites").glob("*.yaml")):
        assert list_sites()[path.stem] == path
        load_site(path.stem)


def test_a_profile_with_a_broken_site_ends_with_3(sites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the profile is wrong but the site."""
    (sites / "leo.yaml").write_text("sbatch: 3\n", encoding="utf-8")
    (sites / "run.yaml").write_text("name: run\ndata: {files: [x.h5]}\nlaunch: {site: leo}\n", encoding="utf-8")
    assert run_command("check", ["run.yaml", "--no-memory"]) == 3
    assert "sbatch: found 3; must be a mapping" in capsys.readouterr().err
