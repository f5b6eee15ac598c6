"""``--cmake``: what the wrapper gives is what Python gives, on both runtimes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edgekit as ek
from edgekit import bundle, exporting
from edgekit.bundle import Bundle
from edgekit.domain import Format, Interface, Picture, TensorBinding, TensorSpec
from edgekit.exporting import cmake
from edgekit.exporting.contract import Package
from edgekit.exporting.tensors import signature
from edgekit.formats import binding
from tests import models
from tests.factories import make_bundle
from tests.native import SOURCES, STRICT, compiled, needs_cmake, needs_gcc, run, runtimes
from tests.paths import ROOT

pytestmark = pytest.mark.xdist_group("exports")
RUNTIMES = {"litert": "LiteRt", "onnx": "onnxruntime"}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtimes(tmp_path_factory.mktemp("native") / "root")


@pytest.fixture(params=RUNTIMES)
def bundle_path(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_bundle")


def golden(opened: Bundle, side: str) -> np.ndarray:
    """The first input's or output's golden vectors, as the app's programmer has them."""
    manifest = opened.manifest
    (bound,) = getattr(manifest.artifact, side)
    stack = np.load(opened.root / getattr(manifest.golden, side)[0])
    return np.stack([binding.to_source(each, bound) for each in stack])


@needs_cmake
def test_the_example_gives_what_python_gives(bundle_path: Path, root: Path, tmp_path: Path) -> None:
    """Built by CMake from an export, as its README says; the golden vectors to the last digit."""
    app = tmp_path / "cpp_app"
    app.mkdir()
    for name in ("CMakeLists.txt", "main.cpp"):
        (app / name).write_bytes((ROOT / "examples" / "cpp_app" / name).read_bytes())
    exporting.export(bundle_path, "cmake", app / "model")
    found = (f"-DLITERT_ROOT={root}", f"-DONNXRUNTIME_ROOT={root}")
    flags = "-DCMAKE_CXX_FLAGS=-Werror -O0"
    run("cmake", "-S", app, "-B", app / "build", "-Wno-dev", flags, *found)
    run("cmake", "--build", app / "build")
    with bundle.opened(bundle_path) as opened:
        digits, expected = golden(opened, "inputs"), golden(opened, "outputs")
    twice = np.concatenate([digits, digits])  # the second time from the cache
    np.savetxt(app / "digits.txt", twice.reshape(len(twice), -1), fmt="%.9g")
    (model,) = (app / "build").glob("model.*")
    told = run(app / "build" / "cpp_app", model, app / "digits.txt").stdout.decode()
    rows = np.array([line.split() for line in told.splitlines()], np.float32)
    expected = np.concatenate([expected, expected]).reshape(len(twice), -1)
    np.testing.assert_array_equal(rows[:, 2:], expected)
    np.testing.assert_array_equal(rows[:, 0], expected.argmax(1))
    probabilities = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    np.testing.assert_allclose(rows[:, 1], probabilities.max(1), atol=1e-3)


@needs_cmake
def test_without_the_runtime_cmake_says_what_to_give(litert_bundle: Path, tmp_path: Path) -> None:
    exporting.export(litert_bundle, "cmake", tmp_path / "model")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.15)\nproject(app CXX)\n"
        "find_package(digits CONFIG REQUIRED PATHS model NO_DEFAULT_PATH)\n"
    )
    with pytest.raises(AssertionError, match="-DLITERT_ROOT=FOLDER"):
        run("cmake", "-S", tmp_path, "-B", tmp_path / "build")


ODD = """
#include <%(name)s.hpp>
#include <cstdio>
#include <fstream>

template <typename Call>
void tell(Call call) {
  try {
    call();
    std::puts("nothing");
  } catch (const edgekit::Error& error) {
    std::printf("%%d %%s\\n", static_cast<int>(error.kind()), error.what());
  }
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  edgekit::Options two;
  two.threads = 2;
  digits::Model model(argv[1], two);
  digits::Inputs sample;
  sample.image.pop_back();
  tell([&] { model.run(sample); });
  tell([&] { model.run_batch(std::vector<digits::Inputs>(2)); });
  tell([&] { digits::Model changed(argv[2]); });
  tell([&] { digits::Model none("nowhere"); });
  digits::Model moved(std::move(model));
  const auto same = moved.run(digits::Inputs()).logits == moved.run(digits::Inputs()).logits;
  std::printf("%%s %%s\\n", same ? "same" : "other",
              digits::key(digits::Inputs()) == digits::key(digits::Inputs()) ? "same" : "other");
  return 0;
}
"""


@needs_gcc
def test_what_goes_wrong_is_said(bundle_path: Path, root: Path, tmp_path: Path) -> None:
    """Wrong sizes, a changed model, none at all; under the sanitizers."""
    out = tmp_path / "model"
    made = exporting.export(bundle_path, "cmake", out)
    (model,) = (out / "share" / "digits").iterdir()
    changed = tmp_path / "changed"
    changed.write_bytes(model.read_bytes()[:-1] + b"?")
    (tmp_path / "main.cpp").write_text(ODD % {"name": "digits"})
    library = RUNTIMES["litert" if model.suffix == ".tflite" else "onnx"]
    flags = ("-I", out / "include", "-I", root / "include", "-fsanitize=address,undefined", "-Wall")
    linked = (f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-Wl,--no-as-needed")
    program = compiled(tmp_path / "main.cpp", tmp_path / "odd", *flags, *linked, f"-l{library}")
    # The runtimes keep what they registered for as long as the process lives.
    told = run(program, model, changed, env={"ASAN_OPTIONS": "detect_leaks=0"}).stdout.decode()
    size, many, digest, nowhere, same = told.splitlines()
    assert size == "3 image takes 64 values, got 63"
    assert many == "3 a run takes 1 to 1 samples, got 2"
    assert digest.startswith(f"1 {changed} is not the model that this code was made for")
    assert made.record.artifact_sha256 in digest
    assert nowhere == "0 cannot open the model nowhere"
    assert same == "same same"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of four samples at a time, and its bundle."""
    folder = tmp_path_factory.mktemp("four")
    path = models.save(models.conv_net(4), folder / "four.onnx")
    return path, built(path, Format.ONNXRUNTIME)


@needs_gcc
def test_models_of_two_runtimes_in_one_app(
    litert_bundle: Path, onnx_bundle: Path, four: tuple[Path, Path], root: Path, tmp_path: Path
) -> None:
    """A cascade asks the one or the other; calls that wait are run four at a time."""
    named = {"digits": litert_bundle, "large": onnx_bundle, "four": four[1]}
    files, includes = [], []
    for name, path in named.items():
        ek.export(path, "cmake", tmp_path / name, name=name)
        files += (tmp_path / name / "share" / name).iterdir()
        includes += ["-I", tmp_path / name / "include"]
    linked = (f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-Wl,--no-as-needed")
    libraries = [f"-l{library}" for library in RUNTIMES.values()]
    flags = (*STRICT, *includes, "-I", root / "include", *linked)
    program = compiled(SOURCES / "together.cpp", tmp_path / "together", *flags, *libraries)
    samples = np.random.default_rng(0).normal(size=(6, 192)).astype(np.float32)
    np.savetxt(tmp_path / "samples.txt", samples, fmt="%.9g")
    lines = run(program, *files, tmp_path / "samples.txt").stdout.decode().splitlines()
    for line, name, large in zip(lines, ("digits", "large"), "01", strict=False):
        was_large, *logits = line.split()
        assert was_large == large
        np.testing.assert_array_equal(np.float32(logits), blank(named[name], tmp_path))
    zeros = models.run(four[0], {"x": np.zeros((4, 3, 8, 8), np.float32)})["y"]
    np.testing.assert_allclose(np.float32(lines[2].split()), zeros.ravel(), rtol=1e-4, atol=1e-5)
    assert lines[3] == "2"
    padded = np.concatenate([samples, samples[4:], samples[4:]])[:8].reshape(2, 4, 3, 8, 8)
    expected = np.concatenate([models.run(four[0], {"x": each})["y"] for each in padded])[:6]
    got = np.float32([line.split() for line in lines[4:]])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


PAIR = """
#include <pair.hpp>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  pair::Model model(argv[1]);
  pair::Inputs sample;
  sample.left = {1, 2, 3, 4};
  sample.right = {5, 6, 7, 8};
  const pair::Outputs results = model.run(sample);
  for (const float score : results.scores) std::printf("%.9g ", static_cast<double>(score));
  for (const float value : results.scaled) std::printf("%.9g ", static_cast<double>(value));
  return 0;
}
"""


@needs_gcc
@pytest.mark.parametrize("format_", [Format.LITERT, Format.ONNXRUNTIME])
def test_tensors_are_told_apart_by_name(format_: Format, root: Path, tmp_path: Path) -> None:
    """Two inputs of four numbers each, and two outputs: a runtime may have them in any order."""
    path = models.save(models.two_by_two(), tmp_path / "pair.onnx")
    made = built(path, format_)
    with bundle.opened(made) as opened:
        inputs = opened.manifest.artifact.inputs
        turned = msgspec.structs.replace(opened.manifest.artifact, inputs=inputs[::-1])
        manifest = msgspec.structs.replace(opened.manifest, artifact=turned)
        moved = msgspec.structs.replace(opened, manifest=manifest)
        files = cmake.files(Package(bundle=moved, name="pair", signature=signature(manifest)))
        for name, content in files.items():
            (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            whole = content if isinstance(content, bytes) else content.read_bytes()
            (tmp_path / "out" / name).write_bytes(whole)
    (tmp_path / "main.cpp").write_text(PAIR)
    (model,) = (tmp_path / "out" / "share" / "pair").iterdir()
    linked = (f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-Wl,--no-as-needed")
    library = RUNTIMES["litert" if format_ is Format.LITERT else "onnx"]
    flags = ("-I", tmp_path / "out" / "include", "-I", root / "include", *linked)
    program = compiled(tmp_path / "main.cpp", tmp_path / "pair", *flags, f"-l{library}")
    got = np.float32(run(program, model).stdout.split())
    left, right = np.float32([[1, 2, 3, 4]]), np.float32([[[5, 6], [7, 8]]])
    expected = models.run(path, {"left": left, "right": right})
    wanted = np.concatenate([expected["scores"].ravel(), expected["scaled"].ravel()])
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def built(path: Path, format_: Format) -> Path:
    """A bundle in float, for a device that takes the format."""
    device = {Format.LITERT: "raspberry-pi-5", Format.ONNXRUNTIME: "generic-x86-64"}[format_]
    model = ek.load(path)
    choice = ek.Choice(calibration=False, formats=(format_,), precisions=("float32",))
    plan = ek.plan(model, device=device, choice=choice)
    return ek.build(model, plan, path.with_suffix(".edgekit")).path


def blank(path: Path, folder: Path) -> np.ndarray:
    """What Python gives for a picture of zeros."""
    with bundle.opened(path) as opened:
        artifact = opened.manifest.artifact
        (bound,) = artifact.inputs
        feeds = {bound.source.name: np.zeros(bound.source.shape, np.float32)}
        got = binding.run(
            opened.artifact, opened.manifest.recipe.runtime, artifact.inputs, feeds, folder
        )
        (output,) = artifact.outputs
        return binding.to_source(got[output.artifact.name], output).ravel()


def package(tmp_path: Path, *shapes: tuple[int, ...], **interface: object) -> Package:
    """Inputs of these shapes, and the output that the factories make."""
    made = make_bundle(tmp_path / "tiny")
    bound = tuple(
        TensorBinding(
            source=TensorSpec(f"x{i}", shape, "float32"),
            artifact=TensorSpec(f"x{i}", shape, "float32"),
            permutation=tuple(range(len(shape))),
        )
        for i, shape in enumerate(shapes)
    )
    artifact = msgspec.structs.replace(made.manifest.artifact, inputs=bound)
    shown = Interface(**interface)
    manifest = msgspec.structs.replace(made.manifest, artifact=artifact, interface=shown)
    opened = msgspec.structs.replace(made, manifest=manifest)
    return Package(bundle=opened, name="tiny", signature=signature(manifest))


def header(made: Package) -> str:
    content = cmake.files(made)["include/tiny.hpp"]
    assert isinstance(content, bytes)
    return content.decode()


def test_an_export_holds_one_runtime_s_files(litert_bundle: Path, onnx_bundle: Path) -> None:
    for path, own, other in (
        (litert_bundle, "litert", "onnxruntime"),
        (onnx_bundle, "onnxruntime", "litert"),
    ):
        with bundle.opened(path) as opened:
            view = signature(opened.manifest)
            made = cmake.files(Package(bundle=opened, name="digits", signature=view))
            texts = {
                name: content if isinstance(content, bytes) else content.read_bytes()
                for name, content in made.items()
            }
        assert f"include/edgekit/{own}.hpp" in texts
        assert f"include/edgekit/{other}.hpp" not in texts
        ours = b"".join(text for name, text in texts.items() if name.endswith((".hpp", ".cmake")))
        assert not re.search(rf"{other}[_:./]".encode(), ours)


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [([(1, 4)], 1), ([(4, 3)], 1), ([()], 1), ([(1, 4), (4, 1)], 1)],
)
def test_samples_of_one_run(tmp_path: Path, shapes: list[tuple[int, ...]], batch: int) -> None:
    """The output has a first axis of 1: where not all agree, there is no batch."""
    assert cmake.batch(package(tmp_path, *shapes).signature) == batch


OFFERED = r"""
#include <tiny.hpp>

static_assert(tiny::kLabels.size() == 4, "");
static_assert(tiny::kLabels[2] == "c\"", "");

std::string_view seen(tiny::Model& model, const std::uint8_t* pixels) {
  tiny::Inputs inputs;
  inputs.x0_from_pixels(pixels);
  return tiny::label(model.run(inputs));
}
"""


@needs_gcc
def test_pictures_and_labels_are_offered(tmp_path: Path, root: Path) -> None:
    picture = Picture(colours="bgr", scale=(0.5,), bias=(-1.0, 0.0, 1.0))
    labels = ("a", "b", 'c"', "d")
    told = header(package(tmp_path, (1, 3, 4, 5), pictures={"x0": picture}, labels=labels))
    assert "void x0_from_pixels(const std::uint8_t* pixels)" in told
    assert "{4, 5, 3, true, true, {0.5f}, {-1.0f, 0.0f, 1.0f}}" in told
    assert "std::array<std::string_view, 4> kLabels" in told
    assert '"c\\042",' in told
    (tmp_path / "tiny.hpp").write_text(told)
    (tmp_path / "main.cpp").write_text(OFFERED)
    flags = (*STRICT, "-I", tmp_path, "-I", root / "include", "-c")
    compiled(tmp_path / "main.cpp", tmp_path / "main.o", *flags)


def test_a_type_that_the_wrapper_does_not_know(tmp_path: Path) -> None:
    made = package(tmp_path, (1, 4))
    odd = TensorSpec("x0", (1, 4), "complex64")
    (tensor,) = made.signature.inputs
    view = msgspec.structs.replace(
        made.signature, inputs=(msgspec.structs.replace(tensor, source=odd),)
    )
    with pytest.raises(Exception, match="knows no tensors of complex64"):
        cmake.files(msgspec.structs.replace(made, signature=view))
