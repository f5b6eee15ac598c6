"""How long work says what it is doing: one callable, told each stage as it begins."""

from __future__ import annotations

from collections.abc import Callable

OnStage = Callable[[str, str], None]
"""Called with a stage's name and what it is working on."""

OnRow = Callable[[str, str, str], None]
"""The same of several works at a time: called with the name of one of them first."""


def silent(stage: str, detail: str) -> None:
    """Tell nobody."""
    del stage, detail


def silent_rows(name: str, stage: str, detail: str) -> None:
    """Tell nobody."""
    del name, stage, detail
