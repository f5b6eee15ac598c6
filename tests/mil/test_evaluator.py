"""What goes into a program and what comes out: types, pictures, labels, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit import mil
from edgekit.domain import TensorSpec
from edgekit.errors import DataError, ModelError, ToolError, UnsupportedOperation
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits
from tests.mil.programs import ct, edited, floats, ints, mb, saved, types

X = floats(2, 3)
PIXELS = ints(4, 6, 3, low=0, high=256).astype(np.uint8)
PLANES = PIXELS.transpose(2, 0, 1)[np.newaxis].astype(np.float32)


def _program(folder: Path, target: str = "iOS16") -> mil.Program:
    return mil.load(saved(folder, lambda x: mb.relu(x=x, name="y"), {"x": X}, target))


@pytest.mark.parametrize(("target", "opset"), [("iOS15", "CoreML5"), ("iOS18", "CoreML8")])
def test_a_program_says_what_it_takes_and_gives(tmp_path: Path, target: str, opset: str) -> None:
    program = _program(tmp_path, target)
    assert program.opset == opset
    assert [each.spec for each in program.inputs] == [TensorSpec("x", (2, 3), "float32")]
    assert [each.spec for each in program.outputs] == [TensorSpec("y", (2, 3), "float32")]
    assert mil.unsupported(program) == ()


def test_another_float_is_converted(tmp_path: Path) -> None:
    (output,) = mil.evaluate(_program(tmp_path), {"x": X.astype(np.float64)}).values()
    np.testing.assert_array_equal(output, np.maximum(X, 0))
    assert output.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "needs the input 'x'"),
        ({"x": X, "z": X}, "has no input 'z'; it has x"),
        ({"x": X[:, :2]}, r"'x' has shape \(2, 3\), got \(2, 2\)"),
        ({"x": X.astype(np.complex64)}, "'x' is of float32, got complex64"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(tmp_path: Path, inputs: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        mil.evaluate(_program(tmp_path), inputs)


def test_an_integer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    x = ints(3)
    program = mil.load(saved(tmp_path, lambda x: mb.abs(x=x, name="y"), {"x": x}))
    np.testing.assert_array_equal(mil.evaluate(program, {"x": x.astype(np.int64)})["y"], abs(x))
    with pytest.raises(DataError, match="outside of int32"):
        mil.evaluate(program, {"x": np.int64([0, 1, 2**31])})
    with pytest.raises(DataError, match="is of int32, got float32"):
        mil.evaluate(program, {"x": X[0]})


def test_a_flexible_axis_takes_any_size(tmp_path: Path) -> None:
    axis = ct.RangeDim(1, 8, default=3)
    path = saved(
        tmp_path,
        lambda x: mb.relu(x=x, name="y"),
        {"x": X},
        axes={"x": (2, axis.symbol)},
        inputs=[ct.TensorType(name="x", shape=(2, axis))],
    )
    program = mil.load(path)
    longer = floats(2, 7)
    np.testing.assert_array_equal(mil.evaluate(program, {"x": longer})["y"], np.maximum(longer, 0))
    assert program.inputs[0].shape == (2, 3)


@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_a_picture_is_scaled_in_the_order_of_its_layout(tmp_path: Path, layout: str) -> None:
    bias = [-1.0, -0.5, 0.25]
    picture = ct.ImageType(
        name="x",
        shape=PLANES.shape,
        scale=1 / 127.5,
        bias=bias,
        color_layout=getattr(ct.colorlayout, layout),
    )
    path = saved(
        tmp_path,
        lambda x: mb.identity(x=x, name="y"),
        {"x": PLANES},
        inputs=[picture],
        pass_pipeline=ct.PassPipeline.DEFAULT,
    )
    program = mil.load(path)
    assert program.inputs[0].spec == TensorSpec("x", (4, 6, 3), "uint8")
    planes = PLANES if layout == "RGB" else PLANES[:, ::-1]
    expected = planes / 127.5 + np.float32(bias).reshape(3, 1, 1)
    np.testing.assert_allclose(mil.evaluate(program, {"x": PIXELS})["y"], expected, 1e-5, 1e-5)
    with pytest.raises(DataError, match=r"has shape \(4, 6, 3\), got \(1, 3, 4, 6\)"):
        mil.evaluate(program, {"x": PLANES.astype(np.uint8)})


def test_a_gray_picture_has_no_channels(tmp_path: Path) -> None:
    gray = ct.ImageType(name="x", shape=(1, 1, 4, 6), color_layout=ct.colorlayout.GRAYSCALE)
    feeds = {"x": PLANES[:, :1]}
    path = saved(tmp_path, lambda x: mb.mul(x=x, y=0.5, name="y"), feeds, inputs=[gray])
    result = mil.evaluate(mil.load(path), {"x": PIXELS[..., 0]})["y"]
    np.testing.assert_array_equal(result, PLANES[:, :1] / 2)


def test_an_output_may_be_a_picture(tmp_path: Path) -> None:
    def paint(model):
        image = model.description.output[0].type.imageType
        image.height, image.width = 4, 6
        image.colorSpace = image.BGR

    path = saved(tmp_path, lambda x: mb.mul(x=x, y=1.5, name="y"), {"x": PLANES})
    edited(path, paint)
    program = mil.load(path)
    assert program.outputs[0].spec == TensorSpec("y", (4, 6, 3), "uint8")
    expected = np.clip(np.rint(PIXELS[..., ::-1] * 1.5), 0, 255)
    np.testing.assert_array_equal(mil.evaluate(program, {"x": PLANES})["y"], expected)


@pytest.mark.parametrize("labels", [["cat", "dog", "owl"], [10, 20, 30]])
def test_a_classifier_gives_a_label_and_probabilities(tmp_path: Path, labels: list) -> None:
    path = saved(
        tmp_path,
        lambda x: mb.softmax(x=x, axis=-1, name="p"),
        {"x": X[:1]},
        classifier_config=ct.ClassifierConfig(labels, predicted_feature_name="animal"),
    )
    program = mil.load(path)
    assert program.classes == tuple(labels)
    results = mil.evaluate(program, {"x": np.log(np.float32([[1, 5, 2]]))})
    assert results["animal"] == labels[1]
    np.testing.assert_allclose(results["animal_probs"], np.float32([1, 5, 2]) / 8, 1e-6)
    assert [each.shape for each in program.outputs] == [(), (3,)]


def test_the_default_of_several_functions_runs(tmp_path: Path) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("single", 1.0), ("double", 2.0)):
        folder = tmp_path / name
        path = saved(folder, lambda x, f=factor: mb.mul(x=x, y=f, name="y"), {"x": X}, "iOS18")
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = "double"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    program = mil.load(tmp_path / "both.mlpackage")
    np.testing.assert_array_equal(mil.evaluate(program, {"x": X})["y"], 2 * X)


def test_an_operation_it_cannot_run_is_named(tmp_path: Path) -> None:
    def build(x):
        noise = mb.random_normal(shape=[2, 3], name="noise")
        return mb.add(x=x, y=noise, name="y")

    program = mil.load(saved(tmp_path, build, {"x": X}))
    assert [(each.type, each.name) for each in mil.unsupported(program)] == [
        ("random_normal", "noise")
    ]
    with pytest.raises(UnsupportedOperation, match=r"cannot run random_normal 'noise'"):
        mil.evaluate(program, {"x": X})


def test_states_are_refused_by_name(tmp_path: Path) -> None:
    @mb.program(
        input_specs=[
            mb.TensorSpec((3,), dtype=types.fp16),
            mb.StateTensorSpec((3,), dtype=types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def program(x, cache):
        total = mb.add(x=mb.read_state(input=cache), y=x)
        mb.coreml_update_state(state=cache, value=total)
        return mb.identity(x=total, name="y")

    target = ct.target.iOS18
    model = ct.convert(program, minimum_deployment_target=target, skip_model_load=True)
    model.save(str(tmp_path / "kept.mlpackage"))
    with pytest.raises(ModelError, match=r"keeps states \(cache\)"):
        mil.load(tmp_path / "kept.mlpackage")


def test_a_failing_operation_is_named(tmp_path: Path) -> None:
    def build(x, i):
        return mb.reshape(x=x, shape=i, name="y")

    program = mil.load(saved(tmp_path, build, {"x": X, "i": np.int32([3, 2])}))
    with pytest.raises(ToolError, match=r"program.mlpackage: reshape 'y' cannot be evaluated"):
        mil.evaluate(program, {"x": X, "i": np.int32([4, 2])})


def summary(package: Path) -> list[float]:
    """Run in a process of its own."""
    program = mil.load(package)
    (output,) = mil.evaluate(program, {"x": X}).values()
    return [float(each) for each in output.ravel()]


def test_it_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda x: mb.relu(x=x), {"x": X})
    result = isolation.call(summary, Limits(seconds=60), path)
    np.testing.assert_array_equal(np.float32(result), np.maximum(X, 0).ravel())


def test_coremltools_itself_is_not_imported(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda x: mb.relu(x=x), {"x": X})
    code = (
        "import sys, numpy as np; from pathlib import Path; from edgekit import mil;"
        f"p = mil.load(Path({str(path)!r})); mil.evaluate(p, {{'x': np.zeros((2, 3))}});"
        "sys.exit('coremltools' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
