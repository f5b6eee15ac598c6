"""What every platform implements: one function from a package to the files that an app embeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from edgekit.bundle import Bundle
from edgekit.domain import Artifact, Format
from edgekit.exporting.tensors import Signature

Files = Mapping[str, bytes | Path]
"""Relative path -> its content, or the file that holds it."""


class Package(Struct, frozen=True, kw_only=True):
    """A verified bundle, as an exporter sees it.

    Attributes:
        name: of what is exported: a snake-case identifier of every target language.
        signature: the model's inputs, outputs and labels, in the words of the app's programmer.
        others: the same model's bundles for other accelerators.
    """

    bundle: Bundle
    name: str
    signature: Signature
    others: tuple[Bundle, ...] = ()

    @property
    def artifact(self) -> Artifact:
        """The model file or folder; ``files`` are relative to the bundle."""
        return self.bundle.manifest.artifact

    @property
    def model(self) -> Path:
        """Where the artifact lies."""
        return self.bundle.artifact

    @property
    def sha256(self) -> str:
        """Of the artifact's file, verified: unlike what a manifest may say besides, a digest."""
        return self.bundle.manifest.digests[self.artifact.path]


class ExportSpec(Struct, frozen=True, kw_only=True):
    """One platform.

    Attributes:
        platform: the option of ``edgekit export``, without its dashes.
        formats: of the artifacts that it takes.
        files: makes all files of an export from a package, writing nothing; the same bytes for
            the same package. Raises ``UsageError`` for a model that the platform cannot run.
        several: whether an export may be of more than one bundle.
    """

    platform: str
    formats: tuple[Format, ...]
    files: Callable[[Package], Files]
    several: bool = False
