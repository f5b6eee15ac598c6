"""``--python``: a wheel is built of it and runs where boards run it, and serves who asks."""

from __future__ import annotations

import base64
import configparser
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from edgekit import bundle, exporting
from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import BundleError, UsageError
from edgekit.exporting import python_package
from edgekit.exporting.contract import Package
from edgekit.exporting.tensors import signature
from edgekit.formats import binding
from tests.device_pythons import device_bin
from tests.exporting.conftest import LABELS
from tests.factories import make_bundle

pytestmark = pytest.mark.xdist_group("exports")
Shown = Callable[..., Package]
SHOWN = Interface(pictures={"image": Picture(colours="gray", scale=(1 / 16,))}, labels=LABELS)
ODD = "Ö\"'''\\\n${name}\U0001f600"
"""What no quoting may break on."""


def told(path: Path, folder: Path) -> Path:
    """The same bundle, with a picture and labels."""
    with bundle.opened(path) as opened:
        shutil.copytree(opened.root, folder / "parts")
        manifest = msgspec.structs.replace(opened.manifest, interface=SHOWN)
    bundle.write(folder / "parts", manifest, folder / "told.edgekit")
    return folder / "told.edgekit"


def exported(path: Path, folder: Path) -> Path:
    exporting.export(told(path, folder), "python", folder / "out", name="digits")
    return folder / "out"


@pytest.fixture(scope="module")
def litert(litert_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(litert_bundle, tmp_path_factory.mktemp("litert-package"))


@pytest.fixture(scope="module")
def onnx(onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(onnx_bundle, tmp_path_factory.mktemp("onnx-package"))


def installed(package: Path) -> Path:
    """A folder that the package's wheel was installed into, built by pip where edgekit is not."""
    site = package.parent / "site"
    if not site.is_dir():
        pip = [str(device_bin("builder") / "python"), "-m", "pip", "--disable-pip-version-check"]
        wheels = package.parent / "wheels"
        own = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
        subprocess.run([*pip, "wheel", *own, "-w", str(wheels), str(package)], check=True)
        (wheel,) = wheels.iterdir()
        subprocess.run([*pip, "install", *own, "--target", str(site), str(wheel)], check=True)
    return site


def python(where: str, package: Path, *argv: str, text: str = "") -> str:
    """Run a board's Python with the package installed; what it says."""
    ran = subprocess.run(
        [str(device_bin(where) / "python"), *argv],
        cwd=installed(package),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(package: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Inputs and outputs as the original model has them, and how far off an output may be."""
    with bundle.opened(package.parent / "told.edgekit") as opened:
        artifact, vectors = opened.manifest.artifact, opened.manifest.golden
        x, y = (np.load(opened.root / files[0]) for files in (vectors.inputs, vectors.outputs))
        taken, given = artifact.inputs[0], artifact.outputs[0]
        tolerance = vectors.tolerances[0]
        return binding.to_source(x, taken), binding.to_source(y, given), tolerance


PREDICT = """
import sys, numpy, digits
model = digits.Model()
assert model.model.session.runtime == sys.argv[3], model.model.session.runtime
answers = [model.predict(image=x) for x in numpy.load(sys.argv[1])]
numpy.save(sys.argv[2], [answer.logits for answer in answers])
print(",".join(digits.label(answer) for answer in answers))
"""


class TestWheel:
    @pytest.mark.parametrize(
        ("format_", "where", "module"),
        [
            ("litert", "litert", "ai_edge_litert"),
            ("litert", "tflite-runtime", "tflite_runtime"),
            ("onnx", "onnxruntime", "onnxruntime"),
            ("onnx", "oldest", "onnxruntime"),
        ],
    )
    def test_it_gives_the_golden_vectors(
        self,
        format_: str,
        where: str,
        module: str,
        request: pytest.FixtureRequest,
        tmp_path: Path,
    ) -> None:
        package = request.getfixturevalue(format_)
        x, y, tolerance = golden(package)
        np.save(tmp_path / "x.npy", x)
        argv = ("-c", PREDICT, str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), module)
        said = python(where, package, *argv)
        got = np.load(tmp_path / "y.npy")
        assert got.shape == y.shape
        assert np.abs(got - y).max() <= tolerance
        assert said.strip().split(",") == [LABELS[i] for i in y[:, 0].argmax(axis=1)]

    def test_building_it_leaves_the_export_as_it_was(self, onnx: Path) -> None:
        """So that it can be exported again, over it."""
        installed(onnx)
        exporting.export(onnx.parent / "told.edgekit", "python", onnx, name="digits")

    def test_a_picture_is_what_it_stands_for(self, onnx: Path) -> None:
        code = """
import numpy, digits
model = digits.Model()
pixels = numpy.arange(64, dtype=numpy.uint8).reshape(8, 8) * 4
real = (pixels / numpy.float32(16))[None, None]
print(bool((model(pixels).logits == model(image=real).logits).all()))
"""
        assert python("onnxruntime", onnx, "-c", code) == "True\n"

    def test_a_changed_model_is_not_loaded(self, onnx: Path, tmp_path: Path) -> None:
        site = shutil.copytree(installed(onnx), tmp_path / "site")
        with (site / "digits" / "model.onnx").open("ab") as file:
            file.write(b"\0")
        argv = [str(device_bin("onnxruntime") / "python"), "-m", "digits"]
        ran = subprocess.run(argv, cwd=site, capture_output=True, text=True, check=False, input="")
        assert ran.returncode == 1
        assert "is not the model that was exported" in ran.stderr
        assert "Traceback" not in ran.stderr


class TestService:
    def test_lines_of_json(self, onnx: Path) -> None:
        x, y, tolerance = golden(onnx)
        raw = base64.b64encode(x[0].astype("<f4").tobytes()).decode()
        packed = {"base64": raw, "dtype": "float32", "shape": list(x[0].shape)}
        lines = [
            json.dumps({"id": "first", "inputs": {"image": x[0].tolist()}}),
            json.dumps({"id": 2, "inputs": {"image": packed}, "as": "base64"}),
            "no JSON",
            json.dumps({"id": 4, "inputs": {"picture": []}}),
            json.dumps({"inputs": {"image": [[["a"]]]}}),
            json.dumps({"inputs": {"image": {"base64": "!", "dtype": "float32", "shape": [1]}}}),
            json.dumps({"inputs": {"image": {"base64": "", "dtype": "object", "shape": [0]}}}),
            "[" * 9999,
            json.dumps([1]),
        ]
        said = python("onnxruntime", onnx, "-m", "digits", text="\n".join(lines) + "\n")
        first, second, *odd = map(json.loads, said.splitlines())
        assert first["id"] == "first"
        assert first["label"] == LABELS[int(y[0].argmax())]
        assert np.abs(np.array(first["outputs"]["logits"]) - y[0]).max() <= tolerance
        logits = second["outputs"]["logits"]
        array = np.frombuffer(base64.b64decode(logits["base64"]), logits["dtype"])
        assert_array_equal(array.reshape(logits["shape"]), np.float32(first["outputs"]["logits"]))
        assert len(odd) == len(lines) - 2
        assert all(answer["error"]["kind"] == "request" for answer in odd)
        assert "the model takes ['image'], got ['picture']" in odd[1]["error"]["message"]
        assert odd[1]["id"] == 4

    def test_a_line_without_end(self, onnx: Path) -> None:
        """It is refused, and not read to its end."""
        said = python("onnxruntime", onnx, "-m", "digits", text="9" * (3 << 20) + "\n")
        (answer,) = map(json.loads, said.splitlines())
        assert "bytes at most" in answer["error"]["message"]

    def test_on_a_socket(self, served: Path, onnx: Path) -> None:
        """Several ask at a time, and each gets its own answers."""
        x, y, tolerance = golden(onnx)
        for sample, wanted in zip(x, y, strict=True):
            with asking(served) as (first, said_to_first), asking(served) as (_, _):
                for _ in range(2):
                    first.sendall(json.dumps({"inputs": {"image": sample.tolist()}}).encode())
                    first.sendall(b"\n")
                    got = json.loads(said_to_first.readline())["outputs"]["logits"]
                    assert np.abs(np.array(got) - wanted).max() <= tolerance

    def test_a_second_service_does_not_take_the_socket(self, served: Path, onnx: Path) -> None:
        argv = [str(device_bin("onnxruntime") / "python"), "-m", "digits", "--socket", str(served)]
        ran = subprocess.run(
            argv, cwd=installed(onnx), capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 1
        assert "listens on" in ran.stderr


class asking:  # noqa: N801
    """A connection to a service."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))

    def __enter__(self) -> tuple[socket.socket, Any]:
        return self._socket, self._socket.makefile("rb")

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def served(onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a service that says when it is ready, and ends when it is told to."""
    folder = tmp_path_factory.mktemp("s")
    path, notify = folder / "d.sock", folder / "n"
    stale = socket.socket(socket.AF_UNIX)  # of a service that was killed
    stale.bind(str(path))
    stale.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        ready.settimeout(60)
        argv = [str(device_bin("onnxruntime") / "python"), "-m", "digits", "--socket", str(path)]
        environment = {"NOTIFY_SOCKET": str(notify), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(argv, cwd=installed(onnx), env=environment) as process:
            assert ready.recv(100) == b"READY=1"
            yield path
            process.terminate()
            assert process.wait(20) == 0
    assert not path.exists()


def unit(package: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((package / "digits.service").read_text())
    return parser


class TestUnit:
    def test_it_is_no_root_and_writes_nowhere(self, litert: Path) -> None:
        service = unit(litert)["Service"]
        assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
        assert service["ProtectSystem"] == "strict"
        assert service["CapabilityBoundingSet"] == ""
        assert service["PrivateDevices"] == "yes"

    def test_its_memory_is_limited_by_what_was_expected(self, litert: Path) -> None:
        with bundle.opened(litert.parent / "told.edgekit") as opened:
            peak = opened.manifest.plan.candidates[0].prediction.peak_memory_bytes.high
        limit = int(unit(litert)["Service"]["MemoryMax"].removesuffix("M")) << 20
        assert 2 * peak <= limit < 2 * peak + (16 << 20)

    def test_an_accelerator_is_left_within_reach(self, onnx_bundle: Path) -> None:
        with bundle.opened(onnx_bundle) as opened:
            manifest = msgspec.structs.replace(opened.manifest, delegate="CUDAExecutionProvider")
            moved = msgspec.structs.replace(opened, manifest=manifest)
            package = Package(bundle=moved, name="digits", signature=signature(manifest))
            files = python_package.files(package)
        assert b"PrivateDevices" not in files["digits.service"]
        assert b"SupplementaryGroups=video" in files["digits.service"]
        assert b"delegate='CUDAExecutionProvider'" in files["digits/__init__.py"]

    def test_an_engine_has_time_and_a_place(self, onnx_bundle: Path, shown: Shown) -> None:
        """And no limit of memory that its building is killed by; nothing else has either."""
        units = [
            bytes(python_package.files(shown(onnx_bundle, delegate=delegate))["digits.service"])
            for delegate in ("TensorrtExecutionProvider", "CUDAExecutionProvider", None)
        ]
        for line in (b"TimeoutStartSec=infinity", b"CacheDirectory=digits", b"MemoryMax=infinity"):
            assert [line in unit.splitlines() for unit in units] == [True, False, False]

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
    @pytest.mark.parametrize("delegate", [None, "TensorrtExecutionProvider"])
    def test_systemd_takes_it_and_finds_it_safe(
        self, onnx_bundle: Path, shown: Shown, tmp_path: Path, delegate: str | None
    ) -> None:
        files = python_package.files(shown(onnx_bundle, delegate=delegate))
        text = bytes(files["digits.service"]).decode()
        path = tmp_path / "digits.service"
        path.write_text(text.replace("/opt/digits/bin/python", sys.executable))
        ran = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "digits.service" not in ran.stderr, ran.stderr
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert rated.returncode == 0, rated.stdout[-2000:]


class TestFiles:
    def test_nothing_is_meant_for_another_platform(self, litert: Path) -> None:
        names = {p.relative_to(litert).as_posix() for p in litert.rglob("*") if p.is_file()}
        own = {name for name in names if not name.startswith("digits/_edgekit/")}
        assert own == {
            "README.md",
            "digits.service",
            "digits/__init__.py",
            "digits/__main__.py",
            "digits/model.tflite",
            "digits/py.typed",
            "edgekit-export.json",
            "pyproject.toml",
        }
        suffixes = {Path(name).suffix for name in names - own}
        assert suffixes == {".py", ""}

    def test_names_steer_nothing(self, onnx_bundle: Path) -> None:
        """Whatever tensors and classes are called, the module says just that."""
        with bundle.opened(onnx_bundle) as opened:
            old = opened.manifest.artifact
            spec = TensorSpec(ODD, old.inputs[0].source.shape, "float32")
            bound = msgspec.structs.replace(old.inputs[0], source=spec)
            artifact = msgspec.structs.replace(old, inputs=(bound,))
            shown = Interface(labels=(ODD, *LABELS[1:]))
            manifest = msgspec.structs.replace(
                opened.manifest, artifact=artifact, interface=shown, model_name=ODD
            )
            moved = msgspec.structs.replace(opened, manifest=manifest)
            package = Package(bundle=moved, name="digits", signature=signature(manifest))
            files = python_package.files(package)
            text, readme = files["digits/__init__.py"], files["README.md"]
        assert isinstance(text, bytes)
        assert isinstance(readme, bytes)
        (line,) = [line for line in readme.decode().splitlines() if line.startswith("echo ")]
        assert list(json.loads(shlex.split(line)[1])["inputs"]) == [ODD]
        text.decode("ascii")
        start = text.index(b"INPUTS: ")
        names = {"Tuple": tuple, "Tensor": dict, "Quantization": dict, "Picture": dict, "str": str}
        names["Quantization"] = lambda *numbers: numbers
        scope: dict[str, Any] = {**names, "tuple": tuple}
        exec(re.sub(rb": Tuple\[.*?\] =", b" =", text[start : text.index(b"@dataclass")]), scope)
        assert scope["INPUTS"][0]["name"] == ODD
        assert scope["LABELS"][0] == ODD
        compile(text, "digits", "exec")

    def test_a_requirement_has_versions_alone(self, onnx_bundle: Path, shown: Shown) -> None:
        """No address: pip would install from there."""
        package = shown(onnx_bundle, runtimes={"onnxruntime": " @ https://example.org/evil.whl"})
        with pytest.raises(BundleError, match="the bundle's runtimes have no versions"):
            python_package.files(package)

    def test_tensors_that_are_no_numbers(self, tmp_path: Path) -> None:
        with bundle.opened(make_bundle(tmp_path / "tiny").root) as opened:
            old = opened.manifest.artifact
            bound = msgspec.structs.replace(old.inputs[0], source=TensorSpec("x", (1, 4), "string"))
            artifact = msgspec.structs.replace(old, inputs=(bound,))
            manifest = msgspec.structs.replace(opened.manifest, artifact=artifact)
            moved = msgspec.structs.replace(opened, manifest=manifest)
            package = Package(bundle=moved, name="tiny", signature=signature(manifest))
            with pytest.raises(UsageError, match="x is of type string, not of numbers"):
                python_package.files(package)

    def test_its_version_is_the_bundles(self, litert: Path) -> None:
        """Another model is another version: pip does not take it for the one that is there."""
        with bundle.opened(litert.parent / "told.edgekit") as opened:
            assert (
                f'version = "1.0+b{opened.sha256[:12]}"' in (litert / "pyproject.toml").read_text()
            )
