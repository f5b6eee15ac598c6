"""The model as an app's programmer sees it: the view that every wrapper is generated from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence

from msgspec import Struct

from edgekit.bundle import MANIFEST
from edgekit.domain import AffineQuantization, Format, Manifest, Picture, TensorBinding, TensorSpec
from edgekit.errors import BundleError
from edgekit.exporting.reserved import WORDS

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


def identifier(text: str, fallback: str, reserved: Container[str] = WORDS) -> str:
    """A snake-case ASCII identifier, by default no reserved word of any target language.

    Args:
        text: any name: ``serving_default_x:0`` becomes ``serving_default_x_0``.
        fallback: what it stands for; alone where nothing is left of the name, and before a digit.
        reserved: what it must not be; a word of it gets an underscore at its end.
    """
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", ascii_)
    made = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if not made or made[0].isdigit():
        made = f"{fallback}_{made}"
    made = made[:_LONGEST].rstrip("_")
    return f"{made}_" if made in reserved else made


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
