"""Samples that lie one to a file in a folder, gathered into the one file that stages stream.

A file is an array (``.npy``), several by the inputs' names (``.npz``), or an image, which
becomes what an input takes by its declared ``Picture``. Where all files lie in folders of
their own, these name the classes: as the labels do, or else in their order, or by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit import datasets, fingerprint, interfaces, store
from edgekit.content import content, files
from edgekit.datasets import LABELS, SINGLE
from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import DataError, ToolMissing
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits

Array = NDArray[Any]
Sample = dict[str, Array]

_LIMITS = Limits(seconds=3600)
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_ARRAY, _ARRAYS = ".npy", ".npz"
_FILE = "samples.npz"
_HINT = "a folder holds .npy arrays, .npz files with an array for each input, or images"


def gathered(
    folder: Path, inputs: tuple[TensorSpec, ...], interface: Interface, cache: Path
) -> Path:
    """The samples of a folder as one ``.npz``, in the order of their names.

    Args:
        folder: its files, and those of its folders; hidden ones are passed over.
        inputs: the model's.
        interface: pictures say what pixels become; labels, the order of the classes.
        cache: where it is kept between builds, by all that decides it.

    Raises:
        DataError: nothing there, a file of another kind, or samples that do not fit.
        ToolMissing: images, and Pillow is not installed.
    """
    parts = [*content(folder), msgspec.json.encode((inputs, interface)), fingerprint.tools()]
    made = store.make(
        cache,
        f"gathered/{store.key(parts)}",
        lambda aside: isolation.call(_fill, _LIMITS, aside / _FILE, folder, inputs, interface),
    )
    return made / _FILE


def _fill(
    destination: Path, folder: Path, inputs: tuple[TensorSpec, ...], interface: Interface
) -> None:
    """What runs in a process of its own: images are files of strangers."""
    found = [path for path in files(folder) if not _hidden(path.relative_to(folder))]
    if not found:
        raise DataError(f"{folder} holds no samples", _HINT)
    classes = _classes(folder, found, interface.labels)
    datasets.save(destination, _samples(found, inputs, interface, classes))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _samples(
    found: list[Path],
    inputs: tuple[TensorSpec, ...],
    interface: Interface,
    classes: dict[str, int],
) -> Iterator[Sample]:
    for path in found:
        sample = _sample(path, inputs, interface)
        label = {LABELS: np.array(classes[path.parent.name])} if classes else {}
        # An input may have that name, too.
        yield {**label, **sample}


def _classes(folder: Path, found: list[Path], labels: tuple[str, ...]) -> dict[str, int]:
    """The number of each class, by its folder's name; none, where no file lies in one.

    Raises:
        DataError: some files do, or a folder is named like none of the labels.
    """
    inside = {path: path.relative_to(folder).parts[:-1] for path in found}
    names = sorted({parents[0] for parents in inside.values() if parents})
    if not names:
        return {}
    for path, parents in inside.items():
        if len(parents) != 1:
            hint = f"{folder}/CLASS/FILE, or no folders"
            raise DataError(f"{path} lies in no class's folder, others do", hint)
    unknown = [name for name in names if labels and name not in labels]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]} is named like none of the labels: {', '.join(labels[:10])}"
        )
    if not labels and all(name.isdecimal() for name in names):
        return {name: int(name) for name in names}
    order = labels or names
    return {name: order.index(name) for name in names}


def _sample(path: Path, inputs: tuple[TensorSpec, ...], interface: Interface) -> Sample:
    """The arrays of one file, by the names of the inputs.

    Raises:
        DataError: a file of another kind, one that cannot be read, or that does not fit.
    """
    suffix = path.suffix.lower()
    if suffix == _ARRAYS:
        arrays = _read(path)
        if len(inputs) == 1 and inputs[0].name not in arrays and SINGLE in arrays:
            arrays[inputs[0].name] = arrays[SINGLE]
        missing = [spec.name for spec in inputs if spec.name not in arrays]
        if missing:
            raise DataError(f"{path} has no array for the input {missing[0]!r}")
        label = {LABELS: arrays[LABELS]} if LABELS in arrays else {}
        return {**label, **{spec.name: _fitted(path, spec, arrays[spec.name]) for spec in inputs}}
    if len(inputs) != 1:
        named = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"{path} is one array, the model takes {len(inputs)}", f"a .npz with {named}"
        )
    (spec,) = inputs
    if suffix == _ARRAY:
        return {spec.name: _fitted(path, spec, next(iter(_read(path).values())))}
    if suffix not in _IMAGES:
        raise DataError(f"{path} is no sample", _HINT)
    picture = interface.pictures.get(spec.name)
    if picture is None:
        raise DataError(
            f"{path} is an image, and nothing says what {spec.name!r} takes of it",
            "declare it: --image-input NAME=rgb,scale=S,bias=B, or `pictures` in edgekit.toml",
        )
    return {spec.name: _image(path, spec, picture)}


def _read(path: Path) -> Sample:
    """The arrays of a file, by name; the one of a ``.npy`` by none.

    Raises:
        DataError: it holds none, or objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except datasets.UNREADABLE as error:
        raise DataError(f"{path} holds no arrays: {error}") from error


def _fitted(path: Path, spec: TensorSpec, array: Array) -> Array:
    """A sample as a row of the input's; axes of one may be left out.

    Raises:
        DataError: of another shape.
    """
    if [n for n in array.shape if n != 1] != [n for n in spec.shape if n != 1]:
        raise DataError(
            f"{path} has shape {list(array.shape)}, the input {spec.name!r} takes "
            f"{list(spec.shape[1:])}"
        )
    return array.reshape(spec.shape[1:])


def _image(path: Path, spec: TensorSpec, picture: Picture) -> Array:
    """An image as a row of the input's: turned as its camera was held, resized, and scaled.

    Raises:
        DataError: it cannot be read.
        ToolMissing: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        hint = "`pip install 'edgekit[images]'`, or give arrays"
        raise ToolMissing(f"reading {path.name} needs Pillow", hint) from error
    order = interfaces.to_pixels(spec, picture)
    _, height, width, _ = (spec.shape[axis] for axis in order)
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise DataError(f"{path} has more than 8 bits a channel", "give it as an array")
            turned = ImageOps.exif_transpose(image)
            mode = "L" if picture.channels == 1 else "RGB"
            resized = turned.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
    except (*datasets.UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error
    pixels = np.asarray(resized, np.float32).reshape(1, height, width, picture.channels)
    if picture.colours == "bgr":
        pixels = pixels[..., ::-1]
    scale, bias = (np.array(each, np.float32) for each in (picture.scale, picture.bias))
    real = (pixels * scale + bias).transpose(np.argsort(order))
    return np.asarray(real[0], spec.dtype)
