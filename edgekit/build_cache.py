"""The name of a build in the store: a digest over everything that decides its bytes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgekit import fingerprint, resources, store
from edgekit.content import content, data_digest
from edgekit.domain import Format
from edgekit.toolchain.environments import TOOLS


def entry(model: Path, request: msgspec.Struct, data: Iterable[Path | None]) -> str:
    """The store entry of a build.

    Args:
        model: the model's file; the external data it names count, too. Of a folder, all files.
        request: everything that was asked for.
        data: calibration and evaluation files, or folders.
    """
    parts: list[str | bytes] = [
        *content(model),
        msgspec.json.encode(_without_paths(request), order="deterministic"),
        *("" if path is None else data_digest(path) for path in data),
        code(),
        msgspec.json.encode(tools(), order="deterministic"),
    ]
    return f"bundles/{store.key(parts)}"


def code() -> str:
    """A digest over all of edgekit that decides a bundle's bytes.

    Its source, what its tools' environments hold, and the runners that are put into bundles.
    """
    return store.key(
        [
            fingerprint.code(),
            *(path.read_bytes() for f in Format for path in resources.runner_files(f).values()),
            *(tool.requirements.read_bytes() for tool in TOOLS.values()),
        ]
    )


def tools() -> dict[str, str]:
    """The version of edgekit, and of every tool that is installed here, by name."""
    return fingerprint.versions(fingerprint.TOOLS) | {
        tool.name: tool.version for tool in TOOLS.values()
    }


def _without_paths(request: msgspec.Struct) -> dict[str, object]:
    """The request's values; where the files lie does not matter, and what they hold is counted."""
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    plain = {k: v for k, v in fields.items() if not isinstance(v, Path)}
    if ":" in (fields["metric"] or ""):
        plain["metric"] = uuid.uuid4().hex  # the user's own code, which may have changed
    return {**plain, "name": fields["model"].stem}
