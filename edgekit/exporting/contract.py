"""What every platform implements: one function from a package to the files that an app embeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edgekit.bundle import Bundle
from edgekit.domain import Artifact, Format
from edgekit.errors import BundleError
from edgekit.exporting.literals import comment
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
        """Of the artifact, verified: unlike what a manifest may say besides, a digest."""
        if self.artifact.parts:
            from edgekit.formats import coreml_package

            return coreml_package.digest(self.model)
        return self.bundle.manifest.digests[self.artifact.path]

    @property
    def recipe(self) -> str:
        """How it was made, in words that neither a comment nor a line of prose ends at."""
        return comment(self.bundle.manifest.recipe.label)

    @property
    def runtimes(self) -> dict[str, SpecifierSet]:
        """The versions of each Python module that runs it; a package manager acts on them.

        Raises:
            BundleError: what is no PEP 440 specifier.
        """
        told = self.bundle.manifest.runtimes
        try:
            return {module: SpecifierSet(versions) for module, versions in told.items()}
        except InvalidSpecifier as error:
            raise BundleError(f"the bundle's runtimes have no versions: {error}") from error


class ExportSpec(Struct, frozen=True, kw_only=True):
    """One platform.

    Attributes:
        platform: the option of ``edgekit export``, without its dashes.
        formats: of the artifacts that it takes.
        files: makes all files of an export from a package, writing nothing; the same bytes for
            the same package. Raises ``UsageError`` for a model that the platform cannot run,
            ``BundleError`` for a manifest that makes no sense.
        several: whether an export may be of more than one bundle.
    """

    platform: str
    formats: tuple[Format, ...]
    files: Callable[[Package], Files]
    several: bool = False
