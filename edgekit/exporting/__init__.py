"""What an app embeds of a bundle: one platform's files and nothing else.

Not named after ``ek.export``, which a package of that name would hide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from edgekit import bundle
from edgekit.bundle import Bundle
from edgekit.errors import UsageError
from edgekit.exporting import (
    android,
    c_array,
    cmake,
    folder,
    ios,
    ort_package,
    python_package,
)
from edgekit.exporting.contract import ExportSpec, Package
from edgekit.exporting.folder import Record
from edgekit.exporting.reserved import NAMES
from edgekit.exporting.tensors import identifier, signature

EXPORTS: dict[str, ExportSpec] = {
    spec.platform: spec
    for spec in (
        android.SPEC,
        ios.SPEC,
        c_array.SPEC,
        cmake.SPEC,
        ort_package.SPEC,
        python_package.SPEC,
    )
}
"""What can be exported to; a new platform is one file here and one row."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Exported(Struct, frozen=True, kw_only=True):
    """An export that was written."""

    path: Path
    record: Record
    size_bytes: int


def export(
    path: Path,
    platform: str,
    destination: Path,
    *,
    name: str | None = None,
    others: Sequence[Path] = (),
) -> Exported:
    """Write what a platform's app embeds of a bundle.

    Args:
        path: the bundle.
        platform: a key of ``EXPORTS``.
        destination: a new or empty folder, or an earlier export that nobody changed since.
        name: what the app's programmer calls the model; ``None``: after the model's file.
        others: bundles of the same model for other accelerators.

    Raises:
        BundleError: a bundle that is damaged, or a destination that holds something else.
        UsageError: no such platform, a name that is no identifier, or bundles whose artifacts
            the platform does not take, or not together.
    """
    if platform not in EXPORTS:
        raise UsageError(f"no platform {platform!r}", f"there is: {', '.join(sorted(EXPORTS))}")
    spec = EXPORTS[platform]
    if others and not spec.several:
        raise UsageError(f"--{platform} takes one bundle, got {1 + len(others)}", "export each")
    folder.check_destination(destination)
    with ExitStack() as stack:
        opened, *rest = (stack.enter_context(_opened(each, spec)) for each in (path, *others))
        package = Package(
            bundle=opened,
            name=_name(name, opened),
            signature=signature(opened.manifest),
            others=tuple(rest),
        )
        record = Record(
            platform=platform,
            name=package.name,
            bundle_sha256=opened.sha256,
            artifact_sha256=package.sha256,
            files={},
        )
        written = folder.write(spec.files(package), record, destination)
    size = folder.total_bytes(destination, written.files)
    return Exported(path=destination, record=written, size_bytes=size)


@contextmanager
def _opened(path: Path, spec: ExportSpec) -> Iterator[Bundle]:
    """A bundle of a format that the platform takes."""
    with bundle.opened(path) as opened:
        got = opened.manifest.artifact.format
        if got not in spec.formats:
            wanted = " or ".join(each.value for each in spec.formats)
            raise UsageError(
                f"{path} holds a model for {got.value}, --{spec.platform} takes {wanted}",
                f"build the bundle with --format {spec.formats[0].value}",
            )
        yield opened


def _name(name: str | None, opened: Bundle) -> str:
    if name is None:
        return identifier(opened.manifest.model_name, "model", NAMES)
    if not _NAME.fullmatch(name) or name in NAMES:
        raise UsageError(
            f"--name {name!r:.80} is no name for code in every language",
            "small letters, digits and _ only, a letter first, 64 at most, no reserved word, and "
            "nothing that C's or Python's library has",
        )
    return name
