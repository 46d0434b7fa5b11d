"""What is asked of TensorRT, and what is made of its answer; trtexec itself is a stand-in on PATH."""

from __future__ import annotations

import json
import stat

import pytest

from hpctrain.edge import tensorrt
from hpctrain.edge.networks import Port
from hpctrain.edge.tensorrt import EngineError, build_engine, trtexec_command

PORTS = (Port("flux", (500,)), Port("bins", (256,)), Port("redshift", ()))

OUTPUT = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b01] # trtexec
[I] Selected Device: Orin
[I] Latency: min = 0.41 ms, max = 0.93 ms, mean = 0.44 ms, median = 0.43 ms, percentile(50%) = 0.43 ms, \
percentile(95%) = 0.52 ms, percentile(99%) = 0.7 ms
&&&& PASSED TensorRT.trtexec [TensorRT v100300]
"""


@pytest.fixture
def trtexec(tmp_path, monkeypatch):
    """Return a function that puts a trtexec on PATH: it notes its arguments, prints, and may write the engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(output=OUTPUT, exit_code=0, writes=True):
        (folder / "output").write_text(output)
        program = folder / "trtexec"
        program.write_text(
            "#!/usr/bin/env python3\n"
            "import json, pathlib, sys\n"
            f"here = pathlib.Path({str(folder)!r})\n"
            "(here / 'arguments').write_text(json.dumps(sys.argv[1:]))\n"
            "print((here / 'output').read_text())\n"
            "engine = next(a for a in sys.argv if a.startswith('--saveEngine=')).partition('=')[2]\n"
            f"if {writes}: pathlib.Path(engine).write_bytes(b'plan')\n"
            f"sys.exit({exit_code})\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return lambda: json.loads((folder / "arguments").read_text())

    return put


def test_shapes_are_written_for_the_smallest_and_the_largest_batch():
    command = trtexec_command("trtexec", PORTS, 32)
    assert "--minShapes=flux:1x500,bins:1x256,redshift:1" in command
    assert "--optShapes=flux:1x500,bins:1x256,redshift:1" in command
    assert "--maxShapes=flux:32x500,bins:32x256,redshift:32" in command
    assert {"--stronglyTyped", "--noTF32"} <= set(command)
    assert {"--onnx=model.onnx", "--saveEngine=model.engine"} <= set(command)


def test_trtexec_is_called_and_its_version_device_and_latency_are_read(trtexec, tmp_path):
    arguments = trtexec()
    engine = build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", PORTS, 64, ["--sparsity=enable"])
    assert (tmp_path / "m.engine").read_bytes() == b"plan"
    assert (engine.version, engine.device) == ("100300", "Orin")
    assert engine.latency_ms == {"p50": 0.43, "p95": 0.52, "p99": 0.7}
    given = arguments()
    assert f"--onnx={tmp_path / 'm.onnx'}" in given
    assert "--maxShapes=flux:64x500,bins:64x256,redshift:64" in given
    assert given[-1] == "--sparsity=enable"


def test_an_output_of_another_version_is_no_error(trtexec, tmp_path):
    trtexec(output="done, in words of its own")
    engine = build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", PORTS, 64)
    assert (engine.version, engine.device, engine.latency_ms) == (None, None, {})


@pytest.mark.parametrize(("exit_code", "writes", "said"), [(1, False, "exit code 1"), (0, False, "no m.engine")])
def test_a_failure_ends_with_its_last_words(trtexec, tmp_path, exit_code, writes, said):
    lines = [f"line {number}" for number in range(40)] + ["[E] Myelin: dequantize is not supported"]
    trtexec("\n".join(lines), exit_code, writes)
    with pytest.raises(EngineError) as caught:
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", PORTS, 64)
    text = str(caught.value)
    assert said in text
    assert text.endswith("[E] Myelin: dequantize is not supported")
    assert "line 39" in text
    assert "line 5\n" not in text
    assert caught.value.exit_code == 3


def test_without_tensorrt_there_is_no_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tensorrt, "JETPACK", tmp_path / "trtexec")
    assert build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", PORTS, 64) is None


PACKAGE = '''
"""A stand-in for NVIDIA's package: it notes what is asked of it."""
import pathlib
__version__ = "10.3.0"
asked = []
class Logger:
    WARNING = 1
    def __init__(self, level): pass
class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED = 1
class BuilderFlag:
    SPARSE_WEIGHTS = "sparse"
    TF32 = "tf32"
class Profile:
    def set_shape(self, *shapes): asked.append(shapes)
class Config:
    def add_optimization_profile(self, profile): asked.append("profile")
    def set_flag(self, flag): asked.append(flag)
    def clear_flag(self, flag): asked.append(f"no {flag}")
class Builder:
    def __init__(self, logger): pass
    def create_network(self, flags): asked.append(flags); return "network"
    def create_builder_config(self): return Config()
    def create_optimization_profile(self): return Profile()
    def build_serialized_network(self, network, config): return b"plan of python"
class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): pass
    def parse_from_file(self, path): return "bad" not in pathlib.Path(path).name
    def get_error(self, index): return "no such operation: Asinh"
'''


def test_the_python_package_is_used_where_there_is_no_trtexec(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tensorrt, "JETPACK", tmp_path / "trtexec")
    monkeypatch.delitem(__import__("sys").modules, "tensorrt", raising=False)
    engine = build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", PORTS, 8, ["--sparsity=enable"])
    import tensorrt as stand_in

    assert (engine.builder, engine.version) == ("tensorrt", "10.3.0")
    assert (tmp_path / "m.engine").read_bytes() == b"plan of python"
    assert stand_in.asked == [
        2,
        "no tf32",
        "sparse",
        ("flux", (1, 500), (1, 500), (8, 500)),
        ("bins", (1, 256), (1, 256), (8, 256)),
        ("redshift", (1,), (1,), (8,)),
        "profile",
    ]
    with pytest.raises(EngineError, match="no such operation: Asinh"):
        build_engine(tmp_path / "bad.onnx", tmp_path / "m.engine", PORTS, 8)
    monkeypatch.delitem(__import__("sys").modules, "tensorrt")
