"""The wrapper that a Python application embeds: tensors, sessions, worker, cache, cascade."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgekit_model import (
    Artifact,
    Cascade,
    Model,
    ModelError,
    Picture,
    Quantization,
    QueueFull,
    Tensor,
    Worker,
    margin,
    sessions,
    softmax,
    tensorrt,
)
from numpy.testing import assert_allclose, assert_array_equal

from edgekit import domain
from edgekit.formats import binding
from tests import models

RANDOM = np.random.default_rng(0)


def tensor(**changes: Any) -> Tensor:
    """An image input that LiteRT takes as int8, its channels last."""
    given = {
        "name": "x",
        "shape": (1, 3, 4, 5),
        "dtype": "float32",
        "artifact_name": "x:0",
        "artifact_dtype": "int8",
        "permutation": (0, 2, 3, 1),
        "quantization": Quantization(0.05, -3),
    }
    return Tensor(**{**given, **changes})


def bound(t: Tensor) -> domain.TensorBinding:
    """The same tensor in edgekit's own words."""
    return domain.TensorBinding(
        source=domain.TensorSpec(t.name, t.shape, t.dtype),
        artifact=domain.TensorSpec(t.artifact_name, t.artifact_shape, t.artifact_dtype),
        permutation=t.permutation,
        quantization=t.quantization and domain.AffineQuantization(*t.quantization),
    )


class TestTensors:
    @pytest.mark.parametrize(
        "one",
        [tensor(), tensor(quantization=None, artifact_dtype="float32")],
        ids=["int8", "float"],
    )
    def test_they_become_what_edgekit_makes_of_them(self, one: Tensor) -> None:
        """So that what was validated is what an application gets."""
        real = RANDOM.normal(scale=4, size=one.shape).astype(np.float32)
        stored = one.to_artifact(real)
        assert_array_equal(stored, binding.to_artifact(real, bound(one)))
        assert stored.dtype == one.artifact_dtype
        assert stored.flags.c_contiguous
        assert_array_equal(one.from_artifact(stored), binding.to_source(stored, bound(one)))
        assert one.from_artifact(stored).shape == one.shape

    @pytest.mark.parametrize("colours", ["rgb", "bgr"])
    @pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 4, 5, 3)])
    def test_a_picture(self, colours: str, shape: tuple[int, ...]) -> None:
        """Its pixels are those that Core ML is given for the same input."""
        scale, bias = (0.5, 0.25, 2.0), (1.0, 0.0, -1.0)
        plain = {"quantization": None, "artifact_dtype": "float32", "permutation": (0, 1, 2, 3)}
        one = tensor(shape=shape, picture=Picture(colours, scale, bias), **plain)
        pixels = RANDOM.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        source = one.to_artifact(pixels)
        assert source.shape == shape
        last = source if shape[3] == 3 else source.transpose(0, 2, 3, 1)
        first = 2 if colours == "bgr" else 0
        assert_allclose(last[0, ..., 0], pixels[..., first] * 0.5 + 1.0)
        picture = domain.Picture(colours=colours, scale=scale, bias=bias)
        assert_array_equal(binding._pixels(last[0], picture), pixels)

    def test_a_gray_picture(self) -> None:
        one = tensor(shape=(1, 1, 4, 5), picture=Picture("gray", (1 / 16,), (0.0,)))
        pixels = RANDOM.integers(0, 256, (4, 5)).astype(np.uint8)
        real = (pixels / np.float32(16))[None, None]
        assert_array_equal(one.to_artifact(pixels), one.to_artifact(real))

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (np.zeros((3, 4, 5), np.float32), r"takes float32 \[1, 3, 4, 5\], got float32 \[3, 4"),
            (np.zeros((1, 3, 4, 5), np.complex64), "got complex64"),
            (np.full((1, 3, 4, 5), np.nan, np.float32), "cannot hold numbers that are not finite"),
            ("cat", "takes float32"),
        ],
    )
    def test_what_will_not_do_is_said(self, value: Any, said: str) -> None:
        with pytest.raises(ModelError, match=said):
            tensor().to_artifact(value)

    def test_integers_are_not_made_of_fractions(self) -> None:
        ids = tensor(shape=(1, 4), dtype="int64", artifact_dtype="int64", quantization=None,
                     permutation=(0, 1))  # fmt: skip
        assert_array_equal(ids.to_artifact([[1, 2, 3, 4]]), [[1, 2, 3, 4]])
        with pytest.raises(ModelError, match="takes int64"):
            ids.to_artifact([[0.5, 1, 2, 3]])

    @pytest.mark.parametrize(
        ("dtype", "artifact_dtype", "value", "said"),
        [
            ("int32", "int32", [[2**40 + 5, 3]], "from 3 to 1099511627781, which int32 does not"),
            ("int64", "int32", [[-(2**40), 3]], "from -1099511627776 to 3, which int32 does not"),
            ("uint8", "uint8", [[-1, 3]], "from -1 to 3, which uint8 does not hold"),
            ("int64", "int64", np.array([[2**63, 0]], np.uint64), "which int64 does not hold"),
            ("float32", "float32", [[1e300, 1]], "from 1.0 to 1e[+]300, which float32 does not"),
            ("float32", "float16", [[1e5, 1]], "which float16 does not hold"),
            ("int32", "int32", [[2**70, 3]], "takes int32 .*, got object"),
            ("bool", "bool", [[1, 0]], "takes bool .*, got int64"),
        ],
    )
    def test_numbers_that_a_type_does_not_hold(
        self, dtype: str, artifact_dtype: str, value: Any, said: str
    ) -> None:
        one = pair(dtype, artifact_dtype)
        with pytest.raises(ModelError, match=said):
            one.to_artifact(value)

    @pytest.mark.parametrize(
        ("dtype", "artifact_dtype", "value"),
        [
            ("uint8", "uint8", [[0, 255]]),
            ("int64", "int32", [[-(2**31), 2**31 - 1]]),
            ("int8", "int8", [[True, False]]),
            ("bool", "bool", [[True, False]]),
            ("float32", "float32", [[7, 2]]),
            ("float32", "float16", [[float("inf"), 65504.0]]),
        ],
    )
    def test_numbers_as_json_has_them(self, dtype: str, artifact_dtype: str, value: Any) -> None:
        stored = pair(dtype, artifact_dtype).to_artifact(value)
        assert stored.dtype == artifact_dtype
        assert stored.tolist() == value

    def test_a_picture_of_plain_integers(self) -> None:
        one = tensor(shape=(1, 1, 2, 2), picture=Picture("gray", (1 / 16,), (0.0,)))
        pixels = [[0, 255], [7, 9]]
        assert_array_equal(one.to_artifact(pixels), one.to_artifact(np.array(pixels, np.uint8)))
        for odd in ([[0, 256], [7, 9]], [[0, -1], [7, 9]]):
            with pytest.raises(ModelError, match=r"a picture: uint8 \[2, 2\], got numbers from"):
                one.to_artifact(odd)


def pair(dtype: str, artifact_dtype: str) -> Tensor:
    return tensor(shape=(1, 2), dtype=dtype, artifact_dtype=artifact_dtype, quantization=None,
                  permutation=(0, 1))  # fmt: skip


def plain(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, "float32", name, "float32", tuple(range(len(shape))))


def model(folder: Path, made: onnx.ModelProto, x: Tensor, y: Tensor, **how: Any) -> Model:
    path = models.save(made, folder / "model.onnx")
    digest = sha256(path.read_bytes()).hexdigest()
    artifact = Artifact(digest, "onnxruntime", ("onnxruntime",), 1)
    return Model(path, artifact, (x,), (y,), **how)


@pytest.fixture
def fixed(tmp_path: Path) -> Model:
    return model(tmp_path, models.dense_net(), plain("x", 1, 6), plain("y", 1, 3))


class TestModel:
    def test_by_name(self, fixed: Model, tmp_path: Path) -> None:
        x = RANDOM.normal(size=(1, 6)).astype(np.float32)
        assert_allclose(
            fixed.predict({"x": x})["y"], models.run(tmp_path / "model.onnx", {"x": x})["y"], 1e-5
        )
        with pytest.raises(ModelError, match=r"the model takes \['x'\], got \['z'\]"):
            fixed.predict({"z": x})

    @pytest.mark.parametrize("batch", [1, "N"])
    def test_many_at_a_time(
        self, tmp_path: Path, batch: int | str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Together where the first axis is open, and the answers are the same."""
        made = model(tmp_path, models.dense_net(batch), plain("x", 1, 6), plain("y", 1, 3))
        calls = [{"x": RANDOM.normal(size=(1, 6)).astype(np.float32)} for _ in range(5)]
        alone = [made.predict(call)["y"] for call in calls]
        runs: list[int] = []
        run = made.session.run
        monkeypatch.setattr(made.session, "run", lambda a: runs.append(len(a[0])) or run(a))
        for one, answer in zip(made.predict_many(calls), alone, strict=True):
            assert one["y"].shape == (1, 3)
            assert_allclose(one["y"], answer, rtol=1e-5)
        assert runs == ([5] if batch == "N" else [1] * 5)

    def test_answers_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same to the last bit; the one longest of no use goes first."""
        x, y = plain("x", 1, 6), plain("y", 1, 3)
        made = model(tmp_path, models.dense_net(), x, y, kept=2)
        a, b, c = ({"x": np.full((1, 6), value, np.float32)} for value in (1, 2, 3))
        first = made.predict(a)["y"]
        expected = first.copy()
        first[:] = 0  # whoever gets an answer may change it
        runs: list[int] = []
        run = made.session.run
        monkeypatch.setattr(made.session, "run", lambda v: runs.append(1) or run(v))
        assert_array_equal(made.predict(a)["y"], expected)
        assert not runs
        for call in (b, a, c, a):  # b is the one to go
            made.predict(call)
        assert len(runs) == 2
        made.predict(b)
        assert len(runs) == 3
        nearly = {"x": np.nextafter(np.full((1, 6), 1, np.float32), np.float32(2))}
        made.predict(nearly)
        assert len(runs) == 4

    def test_less_than_nothing_is_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="-1 answers cannot be kept"):
            model(tmp_path, models.dense_net(), plain("x", 1, 6), plain("y", 1, 3), kept=-1)

    def test_another_file_is_not_loaded(self, fixed: Model, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        artifact = Artifact("0" * 64, "onnxruntime", ("onnxruntime",), 1)
        for changed in (artifact, artifact._replace(sha256=sha256(b"").hexdigest())):
            with pytest.raises(ModelError, match="is not the model that was exported"):
                Model(path, changed, fixed.inputs, fixed.outputs)
        with pytest.raises(ModelError, match="cannot read"):
            Model(tmp_path / "absent", artifact, fixed.inputs, fixed.outputs)

    # LiteRT's own, of a delegate that it could not load.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"modules": ("no_such_runtime", "nor_this")}, "no runtime of this model is installed"),
            ({"delegate": "NoSuchExecutionProvider"}, "NoSuchExecutionProvider is not available"),
            ({"kind": "litert", "modules": ("ai_edge_litert",)}, "does not load in ai_edge_litert"),
            (
                {"kind": "litert", "modules": ("ai_edge_litert",), "delegate": "edgetpu"},
                "edgetpu is not available",
            ),
        ],
    )
    def test_what_keeps_it_from_being_loaded_is_said(
        self, fixed: Model, tmp_path: Path, changes: dict[str, Any], said: str
    ) -> None:
        path = tmp_path / "model.onnx"
        right = Artifact(sha256(path.read_bytes()).hexdigest(), "onnxruntime", ("onnxruntime",), 1)
        with pytest.raises(ModelError, match=said):
            Model(path, right._replace(**changes), fixed.inputs, fixed.outputs)
        if "delegate" in changes and "kind" not in changes:
            wanted = right._replace(**changes)
            Model(path, wanted, fixed.inputs, fixed.outputs, accelerated=False)

    def test_many_threads_take_turns(self, fixed: Model) -> None:
        calls = [{"x": np.full((1, 6), value, np.float32)} for value in range(40)]
        alone = [fixed.predict(call)["y"] for call in calls]
        found: dict[int, Any] = {}

        def ask(index: int) -> None:
            found[index] = fixed.predict(calls[index])["y"]

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, answer in enumerate(alone):
            assert_array_equal(found[index], answer)


class TestTensorRt:
    """As far as can be told where there is none."""

    def test_its_engines_are_kept_for_one_model_and_one_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
        path = tmp_path / "model.onnx"
        seen = []
        for content, version in ((b"a", "1.20"), (b"b", "1.20"), (b"a", "1.21"), (b"a", "1.20")):
            path.write_bytes(content)
            told = tensorrt.options(path, version)
            seen.append(told["trt_engine_cache_path"])
            assert Path(seen[-1]).is_relative_to(tmp_path / "cache")
            assert Path(seen[-1]).is_dir()
            assert told["trt_engine_cache_enable"] is told["trt_timing_cache_enable"] is True
        assert seen[0] == seen[3]
        assert len(set(seen)) == 3
        monkeypatch.delenv("CACHE_DIRECTORY")
        assert tensorrt.options(path, "1.20") == {}

    def test_onnx_runtime_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
        path = models.save(models.dense_net(), tmp_path / "model.onnx")
        given: list[Any] = []

        class Session(onnxruntime.InferenceSession):
            def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
                given.extend(providers)
                super().__init__(path, options, providers=providers[1:])

            def get_providers(self) -> list[str]:
                return [tensorrt.PROVIDER]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [tensorrt.PROVIDER])
        names = (["x"], ["y"])
        sessions.load("onnxruntime", path, names, ["onnxruntime"], 1, tensorrt.PROVIDER)
        assert given == [
            (tensorrt.PROVIDER, tensorrt.options(path, onnxruntime.__version__)),
            "CPUExecutionProvider",
        ]


class Held:
    """Answers with what it was asked, once it is let; remembers how many came together."""

    def __init__(self) -> None:
        self.began, self.go = threading.Semaphore(0), threading.Event()
        self.together: list[int] = []

    def __call__(self, calls: list[Any]) -> list[Any]:
        self.together.append(len(calls))
        self.began.release()
        assert self.go.wait(20)
        if "odd" in calls:
            raise ValueError("odd")
        return [f"answer to {call}" for call in calls]


class TestWorker:
    def test_a_full_queue_is_an_error(self) -> None:
        held = Held()
        with Worker(held, capacity=2) as worker:
            first = worker.submit(0)
            held.began.acquire()
            waiting = [worker.submit(1), worker.submit(2)]
            with pytest.raises(QueueFull, match="2 calls wait already"):
                worker.submit(3)
            held.go.set()
            answers = [future.result(20) for future in (first, *waiting)]
        assert answers == ["answer to 0", "answer to 1", "answer to 2"]

    def test_what_waits_is_run_together(self) -> None:
        held = Held()
        with Worker(held, capacity=8, batch=3) as worker:
            futures = [worker.submit(0)]
            held.began.acquire()
            futures += [worker.submit(index) for index in range(1, 6)]
            futures[2].cancel()
            held.go.set()
            answers = [f.result(20) for f in futures if not f.cancelled()]
        assert answers == [f"answer to {index}" for index in (0, 1, 3, 4, 5)]
        assert held.together == [1, 2, 2]

    def test_one_that_fails_does_not_take_the_others_with_it(self) -> None:
        held = Held()
        held.go.set()
        with Worker(held, capacity=4, batch=4) as worker:
            held.go.clear()
            futures = [worker.submit(0)]
            held.began.acquire()
            futures += [worker.submit(call) for call in (1, "odd", 2)]
            held.go.set()
            assert [futures[i].result(20) for i in (0, 1, 3)] == [
                f"answer to {i}" for i in range(3)
            ]
            with pytest.raises(ValueError, match="odd"):
                futures[2].result(20)

    def test_one_that_gives_too_few_answers_is_not_waited_for(self) -> None:
        with Worker(lambda calls: []) as worker, pytest.raises(ModelError, match="0 answers to 1"):
            worker.submit(0).result(20)

    def test_closing_it_tells_who_waits(self) -> None:
        held = Held()
        worker = Worker(held, capacity=2)
        first = worker.submit(0)
        held.began.acquire()
        left = worker.submit(1)
        closing = threading.Thread(target=worker.close)
        closing.start()
        with pytest.raises(ModelError, match="the worker was closed"):
            left.result(20)
        held.go.set()
        closing.join(20)
        assert first.result(20) == "answer to 0"
        with pytest.raises(ModelError, match="the worker is closed"):
            worker.submit(2)

    def test_a_batch_that_never_fills(self) -> None:
        with pytest.raises(ModelError, match="a batch of 3 never fills with a queue of 2"):
            Worker(list, capacity=2, batch=3)


@pytest.mark.parametrize(
    ("confidence", "asked"),
    [(0.9, ["small"]), (0.5, ["small", "large"]), (np.nan, ["small", "large"])],
)
def test_a_cascade_asks_the_large_one_where_the_small_one_is_not_sure(
    confidence: float, asked: list[str]
) -> None:
    seen: list[str] = []
    small, large = (lambda x, n=n: seen.append(n) or f"{n} {x}" for n in ("small", "large"))
    cascade = Cascade(small, large, lambda answer: confidence, 0.8)
    assert cascade.predict("x") == f"{asked[-1]} x"
    assert seen == asked


def test_scores() -> None:
    probabilities = softmax(np.array([[1000.0, 1000.0, 0.0]]))
    assert_allclose(probabilities, [[0.5, 0.5, 0.0]])
    assert margin(probabilities) == 0.0
    assert margin(np.array([0.1, 0.7, 0.2])) == pytest.approx(0.5)
