"""Core ML: the contract, every form of weights, releases, names and bytes; no Mac is asked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgekit import mil, profiles, sources, validation
from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, Granularity, Interface, Mode, Quantization
from edgekit.domain import coreml as releases
from edgekit.errors import ConversionFailed, ToolError, ToolMissing
from edgekit.formats import FormatSpec, coreml, coreml_compression
from edgekit.sources import SourceModel
from tests.formats.contract import SHARE, FormatContract
from tests.models import model, node, save, tensor, weights

STATIC = Quantization(
    mode=Mode.STATIC, weights="int8", activations="int8", symmetric_activations=True
)
FLOATS = 4 * 9_930


def stored(mode: Mode, weights: str, **more: object) -> Quantization:
    return Quantization(mode=mode, weights=weights, activations="float16", **more)


def in_blocks(mode: Mode, weights: str) -> Quantization:
    return stored(mode, weights, granularity=Granularity.PER_BLOCK)


FORMS = {
    "int8-blocks": (in_blocks(Mode.WEIGHT_ONLY, "int8"), 0.9999),
    "int4-channels": (stored(Mode.WEIGHT_ONLY, "int4"), 0.98),
    "int4-blocks": (in_blocks(Mode.WEIGHT_ONLY, "int4"), 0.98),
    "palettized-8bit": (stored(Mode.PALETTIZED, "lut8"), 0.9999),
    "palettized-6bit": (stored(Mode.PALETTIZED, "lut6"), 0.999),
    "palettized-4bit": (stored(Mode.PALETTIZED, "lut4"), 0.98),
    "palettized-3bit": (stored(Mode.PALETTIZED, "lut3"), 0.93),
    "palettized-2bit": (stored(Mode.PALETTIZED, "lut2"), 0.8),
    "palettized-1bit": (stored(Mode.PALETTIZED, "lut1"), 0.2),
    "float16-sparse-40": (stored(Mode.FLOAT16, "float16", sparsity=0.4), 0.97),
    "int8-weight-only-sparse-40": (stored(Mode.WEIGHT_ONLY, "int8", sparsity=0.4), 0.97),
    "palettized-4bit-sparse-40": (stored(Mode.PALETTIZED, "lut4", sparsity=0.4), 0.95),
}
OPERATIONS = {
    "int8-blocks": {"constexpr_blockwise_shift_scale"},
    "int4-channels": {"constexpr_blockwise_shift_scale"},
    "int4-blocks": {"constexpr_blockwise_shift_scale"},
    "float16-sparse-40": {"constexpr_sparse_to_dense"},
    "int8-weight-only-sparse-40": {
        "constexpr_sparse_to_dense",
        "constexpr_sparse_blockwise_shift_scale",
    },
    "palettized-4bit-sparse-40": {"constexpr_sparse_to_dense", "constexpr_lut_to_sparse"},
}


def operations(package: Path) -> set[str]:
    return {op.type for op in mil.load(package).operations}


class TestCoreML(FormatContract):
    format = Format.COREML
    skips_zeros = True
    refuses = frozenset({"int8-dynamic", "int8-static-int16"})
    # Beside 10 KB of int8 weights the program's own text counts.
    shares = SHARE | {"float16": 0.7, "int8-static": 0.65, "int8-weight-only": 0.45}

    def make(
        self, source: SourceModel, folder: Path, quantization: Quantization | None, **more: object
    ) -> Artifact:
        job = self.job(source, folder, folder, quantization=quantization)
        return coreml.make(msgspec.structs.replace(job, **more))

    @pytest.mark.usefixtures("here")
    @pytest.mark.parametrize("name", FORMS)
    def test_every_form_of_weights_is_stored_and_right(
        self, spec: FormatSpec, reference: validation.Reference, tmp_path: Path, name: str
    ) -> None:
        quantization, cosine = FORMS[name]
        package = tmp_path / "model.mlpackage"
        described = coreml.write(
            reference.source, package, coreml.Form(quantization=quantization, release=18)
        )
        artifact = coreml.record(reference.source, package, described, Interface())
        wanted = OPERATIONS.get(name, {"constexpr_lut_to_dense"})
        assert {op for op in operations(package) if op.startswith("constexpr")} == wanted
        report, _ = validation.validate(
            reference,
            artifact,
            tmp_path,
            spec.host_runtime,
            infer=spec.infer,
            metric=validation.METRICS["cosine"],
            max_drop=1,
        )
        assert report.value >= cosine, report
        file = package / "Data/com.apple.CoreML/weights/weight.bin"
        graph = onnx.load(reference.source.graph)
        expected = coreml_compression.expected_bytes(graph, quantization)
        assert 0.9 * expected <= file.stat().st_size <= 1.1 * expected

    def test_the_package_is_the_same_whenever_and_wherever_it_is_made(
        self, source: SourceModel, tmp_path: Path
    ) -> None:
        made = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            made.append(self.make(source, tmp_path / name, stored(Mode.PALETTIZED, "lut4")))
        assert made[0] == made[1]
        for part in made[0].files:
            content = [(tmp_path / name / part).read_bytes() for name in ("first", "second")]
            assert content[0] == content[1], part
        total = hashlib.sha256()
        for part in made[0].parts:
            content = (tmp_path / "first" / made[0].path / part).read_bytes()
            total.update(part.encode() + b"\0" + hashlib.sha256(content).digest())
        assert made[0].sha256 == total.hexdigest()

    @pytest.mark.usefixtures("here")
    def test_metadata_say_where_it_is_from(self, tmp_path: Path) -> None:
        made = small(node("Relu", ["x"], ["y"], "layer"))
        made.producer_name = "a framework"
        made.model_version = 7
        for key, value in {"author": "Ada", "license": "MIT"}.items():
            made.metadata_props.add(key=key, value=value)
        source = loaded(made, tmp_path)
        artifact = self.make(source, tmp_path, None)
        from coremltools.proto import Model_pb2

        spec = Model_pb2.Model()
        data = tmp_path / artifact.path / "Data/com.apple.CoreML/model.mlmodel"
        spec.ParseFromString(data.read_bytes())
        said = spec.description.metadata
        assert (said.author, said.license, said.versionString) == ("Ada", "MIT", "7")
        assert said.userDefined["edgekit.source_sha256"] == source.sha256
        assert not [key for key in said.userDefined if "date" in key]
        manifest = json.loads((tmp_path / artifact.path / "Manifest.json").read_bytes())
        assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]

    @pytest.mark.usefixtures("here")
    @pytest.mark.parametrize(
        ("device", "version"),
        [("iphone-14", 7), ("iphone-15-pro", 8), ("iphone-16", 9), (None, 8)],
    )
    def test_the_device_decides_the_release(
        self, source: SourceModel, tmp_path: Path, device: str | None, version: int
    ) -> None:
        profile = profiles.find(device) if device else None
        artifact = self.make(source, tmp_path, None, device=profile)
        from coremltools.proto import Model_pb2

        spec = Model_pb2.Model()
        data = tmp_path / artifact.path / "Data/com.apple.CoreML/model.mlmodel"
        spec.ParseFromString(data.read_bytes())
        assert spec.specificationVersion == version

    def test_what_the_device_cannot_load_is_not_made(
        self, source: SourceModel, tmp_path: Path
    ) -> None:
        with pytest.raises(ToolError, match="int4-weight-only needs iOS 18, iphone-15-pro"):
            self.make(
                source,
                tmp_path,
                stored(Mode.WEIGHT_ONLY, "int4"),
                device=profiles.find("iphone-15-pro"),
            )
        with pytest.raises(ConversionFailed, match="iphone-12 may have Core ML"):
            self.make(source, tmp_path, None, device=profiles.find("iphone-12"))
        assert not list(tmp_path.glob("model.*"))

    def test_there_is_no_table_of_five_bits(self, source: SourceModel, tmp_path: Path) -> None:
        with pytest.raises(ToolError, match="1, 2, 3, 4, 6, 8"):
            self.make(source, tmp_path, stored(Mode.PALETTIZED, "lut5"))

    @pytest.mark.usefixtures("here")
    def test_static_int8_computes_between_quantized_tensors(
        self, source: SourceModel, calibration: Dataset, tmp_path: Path
    ) -> None:
        artifact = self.make(source, tmp_path, STATIC, calibration=calibration)
        found = operations(tmp_path / artifact.path)
        assert {"quantize", "dequantize", "constexpr_affine_dequantize"} <= found

    @pytest.mark.usefixtures("here")
    def test_everything_refused_is_named_at_once(self, tmp_path: Path) -> None:
        """Operator, node and reason, of every node."""
        made = small(
            node("Asin", ["x"], ["a"], "encoder/asin"), node("Acos", ["a"], ["y"], "encoder/acos")
        )
        with pytest.raises(ConversionFailed) as caught:
            self.make(loaded(made, tmp_path), tmp_path, None)
        assert "Asin 'encoder/asin': Core ML has no such operator" in caught.value.message
        assert "Acos 'encoder/acos'" in caught.value.message
        assert not (tmp_path / "model.mlpackage").exists()

    @pytest.mark.usefixtures("here")
    def test_names_that_core_ml_does_not_take_are_bound(self, tmp_path: Path) -> None:
        made = model(
            [node("Relu", ["input.1"], ["2:0"], "layer")],
            [tensor("input.1", [1, 3])],
            [tensor("2:0", [1, 3])],
        )
        artifact = self.make(loaded(made, tmp_path), tmp_path, None)
        (entering,), (leaving,) = artifact.inputs, artifact.outputs
        assert (entering.source.name, entering.artifact.name) == ("input.1", "input_1")
        assert (leaving.source.name, leaving.artifact.name) == ("2:0", "_2_0")
        program = mil.load(tmp_path / artifact.path)
        got = mil.evaluate(program, {"input_1": np.array([[-1, 0, 2]], np.float32)})
        np.testing.assert_array_equal(got["_2_0"], [[0, 0, 2]])

    @pytest.mark.usefixtures("here")
    def test_bools_and_long_integers_cross_the_border_as_int32(self, tmp_path: Path) -> None:
        made = model(
            [
                node("Greater", ["x", "k"], ["y"], "greater"),
                node("Where", ["m", "x", "k"], ["z"], "where"),
            ],
            [
                tensor("x", [1, 3], onnx.TensorProto.INT64),
                tensor("m", [1, 3], onnx.TensorProto.BOOL),
            ],
            [
                tensor("y", [1, 3], onnx.TensorProto.BOOL),
                tensor("z", [1, 3], onnx.TensorProto.INT64),
            ],
            {"k": np.array([[1, 2, 3]])},
        )
        artifact = self.make(loaded(made, tmp_path), tmp_path, None)
        tensors = [*artifact.inputs, *artifact.outputs]
        assert {bound.artifact.dtype for bound in tensors} == {"int32"}
        program = mil.load(tmp_path / artifact.path)
        feeds = {"x": np.array([[5, 2, 1]], np.int32), "m": np.array([[1, 0, 0]], np.int32)}
        got = mil.evaluate(program, feeds)
        np.testing.assert_array_equal(got["y"], [[1, 0, 0]])
        np.testing.assert_array_equal(got["z"], [[5, 2, 3]])


def test_without_coremltools_the_message_says_what_to_install(
    source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    job = TestCoreML().job(source, tmp_path, tmp_path)
    with pytest.raises(ToolMissing, match="not installed") as caught:
        coreml.make(job)
    assert "edgekit[coreml]" in caught.value.hint


def small(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return model(nodes, [tensor("x", [1, 3])], [tensor("y", [1, 3])])


def loaded(made: onnx.ModelProto, folder: Path) -> SourceModel:
    (folder / "source").mkdir()
    return sources.load(save(made, folder / "source" / "model.onnx"), folder / "source")


def test_a_claim_is_weighed() -> None:
    """A compressor that changed nothing is found out by the bytes it left."""
    graph = model(
        [node("MatMul", ["x", "w"], ["y"], "layer")],
        [tensor("x", [1, 256])],
        [tensor("y", [1, 256])],
        {"w": weights(256, 256)},
    )
    half = stored(Mode.FLOAT16, "float16", sparsity=0.5)
    expected = coreml_compression.expected_bytes(graph, half)
    # The file's header, and two entries with theirs: the values, and where they are.
    assert expected == 256 * 256 * (0.5 * 2 + 1 / 8) + 3 * 64
    coreml_compression.weigh(round(expected), expected, half.precision)
    with pytest.raises(ToolError, match="left weights as they were"):
        coreml_compression.weigh(256 * 256 * 2, expected, half.precision)


def test_pruning_takes_the_smallest() -> None:
    graph = model(
        [node("MatMul", ["x", "w"], ["y"], "layer")],
        [tensor("x", [1, 32])],
        [tensor("y", [1, 32])],
        {"w": weights(32, 32)},
    )
    before = onnx.numpy_helper.to_array(graph.graph.initializer[0])
    coreml_compression.pruned(graph, 0.25)
    after = onnx.numpy_helper.to_array(graph.graph.initializer[0])
    assert (after == 0).sum() == 256
    assert np.abs(before[after == 0]).max() <= np.abs(after[after != 0]).min()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])


@pytest.mark.parametrize(
    ("versions", "os", "release"),
    [
        (">=17.0", "ios", 17),
        (">=17.5", "ipados", 17),
        (">=16.0", "ios", 16),
        (">=26.0", "ios", 18),
        (">=15.4", "ios", None),
        (">=14.1,>=17.2", "ios", 17),
        (">=14.0", "macos", 17),
        (">=13.3", "macos", 16),
        (">=12.0", "macos", None),
    ],
)
def test_the_oldest_system_decides(versions: str, os: str, release: int | None) -> None:
    assert releases.release(versions, os) == release


@pytest.mark.parametrize(
    ("made_for", "mac"),
    [
        (">=17.0", ">=14"),
        (">=16.4,<18", ">=13"),
        (">=18.1", ">=15"),
        (">=14.0", ">=14"),
        ("", ">=13"),
    ],
)
def test_the_mac_that_loads_what_is_made_for_a_phone(made_for: str, mac: str) -> None:
    assert releases.on_a_mac(made_for) == mac
