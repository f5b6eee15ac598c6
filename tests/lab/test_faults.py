"""Each fault of the table, by its number: what has to hold after it does."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.lab.faults.table import FAULTS
from tests.paths import ROOT


def defined(path: str) -> set[str]:
    """The tests of a file, as node ids name them."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if hasattr(one, "name")}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_the_table_is_whole_and_names_tests_that_there_are() -> None:
    assert sorted(FAULTS) == list(range(1, 52))
    in_contract = defined("tests/devices/contract.py")
    contract = {f"TestSsh::{name.rpartition('::')[2]}" for name in in_contract}
    for fault in FAULTS.values():
        assert bool(fault.tests) != bool(fault.not_here)
        for test in fault.tests:
            path, _, name = test.partition("::")
            assert name in defined(path) | contract, test


@pytest.mark.lab
@pytest.mark.parametrize("number", FAULTS)
def test_fault(number: int) -> None:
    fault = FAULTS[number]
    if fault.not_here:
        pytest.skip(f"{fault.what}: {fault.not_here}")
    argv = [sys.executable, "-m", "pytest", "-m", "lab or not lab", "-rs", *fault.tests]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    if " passed" not in done.stdout:
        pytest.skip(f"{fault.what}: {done.stdout.strip().splitlines()[-2]}")
