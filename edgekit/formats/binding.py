"""How an artifact's tensors relate to the source's: found by shape and name, proven by values.

Converters reorder axes (NCHW to NHWC) and rename tensors. A binding is accepted only
when the float artifact, fed through it, gives what the source gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit.datasets import Sample
from edgekit.domain import AffineQuantization, Picture, TensorBinding, TensorSpec
from edgekit.errors import ModelError, ToolError
from edgekit.formats import host
from edgekit.formats.host import Detail
from edgekit.sources import SourceModel, random_feeds
from edgekit.sources.difference import largest_difference, relative_error
from edgekit.sources.feeds import wide_integers

_AGREES = 1e-3
_MAX_TRIES = 24
_INTEGERS = (100, 10, 3)
_LAYOUTS = {3: ("NCW", "NWC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}
Array = NDArray[Any]
Permutation = tuple[int, ...]


def to_artifact(array: Array, binding: TensorBinding) -> Array:
    """A source array as the artifact takes it: axes reordered, quantized if need be."""
    moved = array.transpose(binding.permutation)
    if binding.image is not None:
        return _pixels(moved[0], binding.image).reshape(binding.artifact.shape)
    return stored(moved, binding.quantization, np.dtype(binding.artifact.dtype))


def stored(array: Array, quantization: AffineQuantization | None, dtype: np.dtype[Any]) -> Array:
    """Real values as a tensor of that type holds them."""
    if quantization is None:
        return array.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    scaled = np.round(array / quantization.scale) + quantization.zero_point
    return np.clip(scaled, info.min, info.max).astype(dtype)


def _pixels(real: Array, picture: Picture) -> Array:
    """The picture that a source's input was made of: rows, columns, and red, green, blue."""
    scale, bias = (np.asarray(each, np.float64) for each in (picture.scale, picture.bias))
    pixels = np.clip(np.rint((real - bias) / scale), 0, 255).astype(np.uint8)
    return pixels[..., ::-1] if picture.colours == "bgr" else pixels


def to_source(array: Array, binding: TensorBinding) -> Array:
    """An artifact's array (or a stack of them) as the source gives it, in real units."""
    real = dequantized(array, binding.quantization)
    extra = array.ndim - len(binding.permutation)
    order = np.argsort(binding.permutation)
    return real.transpose((*range(extra), *(int(axis) + extra for axis in order)))


def dequantized(array: Array, quantization: AffineQuantization | None) -> Array:
    """Real values of a stored array."""
    if quantization is None:
        return array
    return (array.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)


def direct(
    specs: Sequence[TensorSpec], details: Sequence[Detail], what: str
) -> tuple[TensorBinding, ...]:
    """Bindings of a format that keeps names and axes, as ONNX Runtime does.

    Raises:
        ToolError: a tensor of the source is not there, or has another shape.
    """
    by_name = {detail.name: detail for detail in details}
    bound = []
    for spec in specs:
        detail = by_name.get(spec.name)
        if detail is None or detail.shape != spec.shape:
            got = "nothing" if detail is None else str(list(detail.shape))
            raise ToolError(f"{what} {spec.name!r} should have shape {list(spec.shape)}, got {got}")
        bound.append(bind(spec, detail, tuple(range(len(spec.shape)))))
    return tuple(bound)


def bind(spec: TensorSpec, detail: Detail, permutation: Permutation) -> TensorBinding:
    """One binding, its layout named where the axes were reordered."""
    layout = None
    if permutation != tuple(range(len(permutation))) and len(permutation) in _LAYOUTS:
        last = (0, *range(2, len(permutation)), 1)
        layout = _LAYOUTS[len(permutation)][permutation == last]
    return TensorBinding(
        source=spec,
        artifact=detail.spec,
        permutation=permutation,
        layout=layout,
        quantization=_quantization(spec, detail),
    )


def _quantization(spec: TensorSpec, detail: Detail) -> AffineQuantization | None:
    """Set where real values are stored as integers: a source of integers takes them as they are."""
    return detail.quantization if np.dtype(spec.dtype).kind == "f" else None


def rebound(
    bindings: tuple[TensorBinding, ...], details: Sequence[Detail]
) -> tuple[TensorBinding, ...]:
    """The same bindings for a quantized sibling of the artifact they were proven on.

    Raises:
        ToolError: the sibling's tensors are not the same ones.
    """
    by_name = {detail.name: detail for detail in details}
    made = []
    for binding in bindings:
        detail = by_name.get(binding.artifact.name)
        if detail is None or detail.shape != binding.artifact.shape:
            raise ToolError(f"quantization changed the tensor {binding.artifact.name!r}")
        made.append(
            msgspec.structs.replace(
                binding,
                artifact=detail.spec,
                quantization=_quantization(binding.source, detail),
            )
        )
    return tuple(made)


Bindings = tuple[TensorBinding, ...]


def proven(source: SourceModel, artifact: Path, runtime: str) -> tuple[Bindings, Bindings]:
    """Find how a converted float artifact's inputs and outputs relate to the source's.

    Loads the artifact into this process: to be run by ``isolation.call``.

    Args:
        source: its probe says what the source gives.
        artifact: its conversion, in float.
        runtime: what runs the artifact.

    Raises:
        ToolError: no way of feeding it gives the source's outputs.
    """
    feeds, expected = random_feeds(source.inputs), probed(source)
    session = host.Session(artifact, runtime)
    inputs = _paired(source.inputs, session.described.input_details, "input")
    outputs = _paired(source.outputs, session.described.output_details, "output")
    nearest = float("inf")
    options = product(*(_fitting(spec.shape, detail.shape) for spec, detail in inputs))
    for tried in islice(options, _MAX_TRIES):
        bound = [bind(s, d, p) for (s, d), p in zip(inputs, tried, strict=True)]
        got = session.run({b.artifact.name: to_artifact(feeds[b.source.name], b) for b in bound})
        found = [_nearest(spec, detail, got, expected) for spec, detail in outputs]
        nearest = min(nearest, max(error for error, _ in found))
        if nearest <= _AGREES:
            results = tuple(binding for _, binding in found)
            _check_integers(source, session, bound, results)
            return tuple(bound), results
    raise ToolError(
        f"the converted model does not give what the source gives: relative error {nearest:.2g} "
        f"at best, {_AGREES} allowed"
    )


def _check_integers(
    source: SourceModel, session: host.Session, inputs: Sequence[TensorBinding], outputs: Bindings
) -> None:
    """The same for larger integers, where the source takes them: the probe has only 0 and 1.

    Raises:
        ToolError: the artifact gives something else for them.
    """
    if not wide_integers(source.inputs):
        return
    import onnx

    from edgekit.sources import reference

    for count in _INTEGERS:
        feeds = random_feeds(source.inputs, integers=count)
        try:
            expected = reference.run(onnx.load(source.graph), feeds)
        except ModelError:
            continue  # fewer may be indices that there are
        got = session.run({b.artifact.name: to_artifact(feeds[b.source.name], b) for b in inputs})
        for b in outputs:
            error = min(_errors([b], got[b.artifact.name], expected[b.source.name]))
            if error > _AGREES:
                raise ToolError(
                    f"the converted model does not give what the source gives for integers up to "
                    f"{count - 1}: relative error {error:.2g}, {_AGREES} allowed"
                )
        return


def probed(source: SourceModel) -> dict[str, Array]:
    """What the source gives for ``random_feeds(source.inputs)``, by the outputs' names."""
    with np.load(source.probe, allow_pickle=False) as archive:
        return {spec.name: archive[f"arr_{i}"] for i, spec in enumerate(source.outputs)}


def run(
    artifact: Path,
    runtime: str,
    inputs: Sequence[TensorBinding],
    feeds: Sample,
    folder: Path,
    infer: host.Infer = host.infer,
) -> dict[str, Array]:
    """Run one sample; outputs by the artifact's names, in the artifact's layout and types."""
    paths = {}
    for index, binding in enumerate(inputs):
        path = folder / f"feed_{index}.npy"
        np.save(path, to_artifact(feeds[binding.source.name], binding)[None])
        paths[binding.artifact.name] = path
    described = infer(artifact, runtime, paths, folder)
    return {
        detail.name: np.load(folder / f"output_{index}.npy")[0]
        for index, detail in enumerate(described.output_details)
    }


def identical(specs: Sequence[TensorSpec]) -> tuple[TensorBinding, ...]:
    """The bindings of the source's own graph."""
    return tuple(
        TensorBinding(source=spec, artifact=spec, permutation=tuple(range(len(spec.shape))))
        for spec in specs
    )


def _paired(
    specs: Sequence[TensorSpec], details: Sequence[Detail], what: str
) -> list[tuple[TensorSpec, Detail]]:
    """By name where the converter kept them, by order where it did not."""
    if len(specs) != len(details):
        raise ToolError(f"the source has {len(specs)} {what}s, the converted model {len(details)}")
    by_name = {detail.name: detail for detail in details}
    if all(spec.name in by_name for spec in specs):
        return [(spec, by_name[spec.name]) for spec in specs]
    return list(zip(specs, details, strict=True))


def _fitting(source: Permutation, artifact: Permutation) -> list[Permutation]:
    """The permutations that turn one shape into the other, the likeliest first."""
    if sorted(source) != sorted(artifact):
        return []
    rank = len(source)
    identity = tuple(range(rank))
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    fitting = [p for p in permutations(identity) if tuple(source[a] for a in p) == artifact]
    return sorted(fitting, key=lambda p: (p != last, p != identity, p != first))


def _nearest(
    spec: TensorSpec, detail: Detail, got: Mapping[str, Array], expected: Mapping[str, Array]
) -> tuple[float, TensorBinding]:
    """The output's binding with the smallest error."""
    bound = [bind(spec, detail, p) for p in _fitting(spec.shape, detail.shape)]
    if not bound:
        raise ToolError(
            f"output {spec.name!r} should have shape {list(spec.shape)}, the converted model "
            f"gives {list(detail.shape)}"
        )
    errors = _errors(bound, got[detail.name], expected[spec.name])
    return min(zip(errors, bound, strict=True), key=lambda pair: pair[0])


def _errors(bound: Sequence[TensorBinding], got: Array, expected: Array) -> Iterator[float]:
    for binding in bound:
        real = to_source(got, binding).astype(np.float64)
        rounded = quantized(expected.dtype) and largest_difference(real, expected) <= 1
        yield 0.0 if rounded else relative_error(real, expected)


def quantized(dtype: np.dtype[Any]) -> bool:
    """Whether a source's own tensor holds quantized values: bytes, of which one is a step."""
    return dtype.kind in "iu" and dtype.itemsize == 1
