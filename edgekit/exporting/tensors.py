"""The model as an app's programmer sees it: the view that every wrapper is generated from."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

from msgspec import Struct

from edgekit.bundle import MANIFEST
from edgekit.domain import AffineQuantization, Format, Manifest, Picture, TensorBinding, TensorSpec
from edgekit.errors import BundleError

_CPP = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
    class compl const const_cast constexpr continue decltype default delete do double dynamic_cast
    else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq
"""
_KOTLIN = "fun in interface is null object package super typealias typeof val var when as"
_SWIFT = """
    any associatedtype defer deinit extension fallthrough fileprivate func guard import init inout
    internal let nil open precedencegroup protocol repeat rethrows self subscript throws where
"""
RESERVED = frozenset(f"{_CPP} {_KOTLIN} {_SWIFT}".split()) | {
    *(word.lower() for word in keyword.kwlist),
    *("edgekit", "std"),
}
"""What means something in C, C++, Kotlin, Swift or Python, and namespaces of the wrappers."""
_LONGEST = 60


class Tensor(Struct, frozen=True, kw_only=True):
    """One input or output.

    Attributes:
        identifier: the source's name as a snake-case identifier, unique in the model.
        source: the tensor as the user's model has it: what the app's programmer sees.
        artifact: the tensor as the runtime takes or gives it.
        permutation: ``artifact_array = source_array.transpose(permutation)``.
        quantization: set when the artifact's tensor is an integer for a real value.
        picture: how the source's values follow from a picture's bytes; ``None``: it is none.
        takes_picture: the artifact itself takes the picture's bytes, as Core ML packages do.
    """

    identifier: str
    source: TensorSpec
    artifact: TensorSpec
    permutation: tuple[int, ...]
    quantization: AffineQuantization | None = None
    picture: Picture | None = None
    takes_picture: bool = False

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name


class Signature(Struct, frozen=True, kw_only=True):
    """A model's inputs and outputs, in the artifact's order.

    Attributes:
        labels: of the classes, in the order of the first output's scores; empty: none are known.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]


def signature(manifest: Manifest) -> Signature:
    """The view of a bundle's manifest.

    Raises:
        BundleError: its axes make no sense, or pictures are taken by what takes none.
    """
    artifact, interface = manifest.artifact, manifest.interface
    bindings = (*artifact.inputs, *artifact.outputs)
    if artifact.format is not Format.COREML and any(binding.image for binding in bindings):
        raise BundleError(f"{MANIFEST} has pictures as what {artifact.format.value} takes")
    ends = len(artifact.inputs)
    told = [("input", b.source.name) for b in artifact.inputs]
    names = identifiers([*told, *(("output", b.source.name) for b in artifact.outputs)])
    tensors = tuple(
        _tensor(binding, name, interface.pictures.get(binding.source.name))
        for binding, name in zip(bindings, names, strict=True)
    )
    return Signature(inputs=tensors[:ends], outputs=tensors[ends:], labels=interface.labels)


def _tensor(binding: TensorBinding, identifier: str, picture: Picture | None) -> Tensor:
    _check_axes(binding)
    return Tensor(
        identifier=identifier,
        source=binding.source,
        artifact=binding.artifact,
        permutation=binding.permutation,
        quantization=binding.quantization,
        picture=binding.image or picture,
        takes_picture=binding.image is not None,
    )


def _check_axes(binding: TensorBinding) -> None:
    """The permutation is one, and leads from one shape to the other: code is made from it."""
    source, order = binding.source.shape, binding.permutation
    fits = sorted(order) == list(range(len(source)))
    moved = tuple(source[axis] for axis in order) if fits else None
    if binding.image is None and moved != binding.artifact.shape:
        raise BundleError(
            f"{MANIFEST} has {list(order)} as the axes of a tensor of shape {list(source)} that "
            f"becomes {list(binding.artifact.shape)}"
        )


def identifier(text: str, fallback: str) -> str:
    """A snake-case ASCII identifier, no reserved word of any target language.

    Args:
        text: any name: ``serving_default_x:0`` becomes ``serving_default_x_0``.
        fallback: what it stands for; alone where nothing is left of the name, and before a digit.
    """
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", ascii_)
    made = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if not made or made[0].isdigit():
        made = f"{fallback}_{made}"
    made = made[:_LONGEST].rstrip("_")
    return f"{made}_" if made in RESERVED else made


def identifiers(named: Iterable[tuple[str, str]]) -> list[str]:
    """Identifiers of things with a fallback and a name each, all of them different."""
    made: list[str] = []
    for fallback, name in named:
        made.append(_free(identifier(name, fallback), made))
    return made


def _free(name: str, taken: Sequence[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name.rstrip('_')}_{number}", number + 1
    return free
