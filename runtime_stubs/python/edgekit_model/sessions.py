"""The runtimes: each loads an artifact and runs it, arrays in and arrays out, in its own types."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Sequence, Tuple

from . import tensorrt
from .errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = List[NDArray[Any]]

_DELEGATES = {
    "edgetpu": ("libedgetpu.so.1", "libedgetpu.1.dylib"),
    "gpu": ("libtensorflowlite_gpu_delegate.so", "libLiteRtOpenClAccelerator.so"),
}
# Operators that keep a state from one run to the next; a call is to know nothing of the one before.
_REMEMBERING = ("LSTM", "RNN", "SVDF", "VAR_HANDLE")
_INTERPRETERS = {"tensorflow": "tensorflow.lite.python.interpreter"}


class Session:
    """A loaded artifact; for one thread at a time.

    Attributes:
        runtime: the module that runs it.
        is_open: whether its first axis takes any number of samples.
    """

    runtime: str
    is_open: bool

    def run(self, inputs: Arrays) -> Arrays:
        """Run once: the artifact's inputs and outputs, in the order they were asked for."""
        raise NotImplementedError


def load(
    kind: str,
    path: Path,
    names: Tuple[Sequence[str], Sequence[str]],
    modules: Sequence[str],
    threads: int,
    delegate: str | None,
) -> Session:
    """Load an artifact.

    Args:
        kind: ``litert`` or ``onnxruntime``.
        path: the artifact.
        names: of the inputs and outputs, in the order in which arrays come and go.
        modules: Python modules that run it; the first that there is does.
        threads: CPU threads.
        delegate: what reaches an accelerator; ``None``: the CPU.

    Raises:
        ModelError: no such runtime, no such accelerator, or an artifact that does not load.
    """
    module = _imported(modules)
    try:
        return _KINDS[kind](module, path, names, threads, delegate)
    except ModelError:
        raise
    except Exception as error:
        message = f"{path.name} does not load in {module.__name__}: {error}"
        raise ModelError(message) from error


def _imported(modules: Sequence[str]) -> Any:
    reasons = []
    for name in modules:
        place = name if name == "onnxruntime" else _INTERPRETERS.get(name, name + ".interpreter")
        try:
            return importlib.import_module(place)
        except ImportError as error:
            reasons.append(f"{name}: {error}")
    raise ModelError(f"no runtime of this model is installed ({'; '.join(reasons)})")


class _OnnxRuntime(Session):
    def __init__(
        self,
        module: Any,
        path: Path,
        names: Tuple[Sequence[str], Sequence[str]],
        threads: int,
        delegate: str | None,
    ) -> None:
        self.runtime = module.__name__
        self._inputs, self._outputs = names[0], list(names[1])
        if delegate and delegate not in module.get_available_providers():
            raise _no_accelerator(delegate, "this onnxruntime was built without it")
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        provider: Any = delegate
        if delegate == tensorrt.PROVIDER:
            provider = (delegate, tensorrt.options(path, module.__version__))
        providers = [*([provider] if provider else []), "CPUExecutionProvider"]
        self._session = module.InferenceSession(str(path), options, providers=providers)
        # It falls back to the CPU without an error where a provider does not start.
        if delegate and delegate not in self._session.get_providers():
            raise _no_accelerator(delegate, "it did not start")
        sides = (*self._session.get_inputs(), *self._session.get_outputs())
        self.is_open = all(v.shape and not isinstance(v.shape[0], int) for v in sides)

    def run(self, inputs: Arrays) -> Arrays:
        outputs: Arrays = self._session.run(self._outputs, dict(zip(self._inputs, inputs)))
        return outputs


class _LiteRt(Session):
    def __init__(
        self,
        module: Any,
        path: Path,
        names: Tuple[Sequence[str], Sequence[str]],
        threads: int,
        delegate: str | None,
    ) -> None:
        self.runtime = module.__name__.split(".")[0]
        delegates = [_delegate(module, delegate)] if delegate else None
        self._interpreter = module.Interpreter(
            model_path=str(path), num_threads=threads, experimental_delegates=delegates
        )
        self._interpreter.allocate_tensors()
        used = {operator["op_name"] for operator in self._interpreter._get_ops_details()}
        self._remembers = any(kind in name for name in used for kind in _REMEMBERING)
        sides = list(self._sides())
        self._inputs, self._outputs = [_indices(side, n) for side, n in zip(sides, names)]
        tensors = [tensor for side in sides for tensor in side.values()]
        self.is_open = all(_first(tensor) == -1 for tensor in tensors)

    def run(self, inputs: Arrays) -> Arrays:
        self._fit(inputs)
        if self._remembers:
            self._interpreter.reset_all_variables()
        for index, value in zip(self._inputs, inputs):
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def _fit(self, inputs: Arrays) -> None:
        """Another number of samples than last time."""
        now = {t["index"]: tuple(t["shape"]) for t in self._interpreter.get_input_details()}
        odd = [(i, value.shape) for i, value in zip(self._inputs, inputs) if now[i] != value.shape]
        for index, shape in odd:
            self._interpreter.resize_tensor_input(index, shape, strict=True)
        if odd:
            self._interpreter.allocate_tensors()

    def _sides(self) -> Iterator[Dict[str, Any]]:
        """Inputs and outputs by name: those of the signature, where it speaks of all of them."""
        interpreter = self._interpreter
        plain = [interpreter.get_input_details(), interpreter.get_output_details()]
        keys = list(interpreter.get_signature_list())
        if keys:
            key = "serving_default" if "serving_default" in keys else keys[0]
            runner = interpreter.get_signature_runner(key)
            signed = [runner.get_input_details(), runner.get_output_details()]
            if all(_same(s.values(), p) for s, p in zip(signed, plain)):
                yield from signed
                return
        yield from ({tensor["name"]: tensor for tensor in side} for side in plain)


def _same(signed: Any, plain: Any) -> bool:
    return {tensor["index"] for tensor in signed} == {tensor["index"] for tensor in plain}


def _indices(side: Dict[str, Any], names: Sequence[str]) -> List[int]:
    """By name, or as they come where another version of the runtime calls them otherwise."""
    if len(side) != len(names):
        raise ModelError(f"expected {list(names)}, the artifact has {list(side)}")
    known = set(side) == set(names)
    tensors = [side[name] for name in names] if known else list(side.values())
    return [int(tensor["index"]) for tensor in tensors]


def _first(tensor: Dict[str, Any]) -> int:
    """The length of the first axis as the file has it: -1 is open."""
    shape = tensor.get("shape_signature", tensor["shape"])
    return int(shape[0]) if len(shape) else 0


def _delegate(module: Any, name: str) -> Any:
    reasons = []
    for library in _DELEGATES.get(name, ()):
        try:
            return module.load_delegate(library)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
    raise _no_accelerator(name, "; ".join(reasons) or "it is not known here")


def _no_accelerator(delegate: str, why: str) -> ModelError:
    return ModelError(
        f"{delegate} is not available: {why}; install it, or run on the CPU with accelerated=False"
    )


_KINDS: Dict[str, Callable[..., Session]] = {"litert": _LiteRt, "onnxruntime": _OnnxRuntime}
