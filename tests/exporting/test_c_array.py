"""``--c``: compiled as C and as C++, and compared with the artifact byte by byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit import bundle, exporting
from edgekit.domain import Interface, Picture
from edgekit.errors import EdgekitError
from edgekit.exporting import c_array
from edgekit.exporting.contract import Package
from edgekit.exporting.tensors import signature

pytestmark = pytest.mark.xdist_group("exports")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
needs_a_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
LABELS = ("zero", 'a "quote"', "back\\slash", "Öl", "octal\t7", "what??/", "*/", "7", "8", "9")


@pytest.fixture(scope="module")
def package(litert_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """With labels and a picture, whose every character has to survive."""
    folder = tmp_path_factory.mktemp("package")
    with bundle.opened(litert_bundle) as opened:
        shutil.copytree(opened.root, folder, dirs_exist_ok=True)
        picture = Picture(colours="gray", scale=(1 / 16,), bias=(0.0,))
        shown = Interface(pictures={"image": picture}, labels=LABELS)
        manifest = msgspec.structs.replace(opened.manifest, interface=shown)
        moved = msgspec.structs.replace(opened, root=folder, manifest=manifest)
    return Package(bundle=moved, name="digits", signature=signature(manifest))


@pytest.fixture(scope="module")
def exported(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name, content in c_array.files(package).items():
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    return folder


def compiled(folder: Path, language: tuple[str, ...], source: str) -> subprocess.CompletedProcess:
    """Compile the array and a program that uses its header, and run that."""
    (folder / "main.c").write_text(source)
    program = folder / "program"
    files = [str(folder / "digits.c"), str(folder / "main.c")]
    subprocess.run(["gcc", *STRICT, *language, *files, "-o", str(program)], check=True)
    return subprocess.run([str(program)], capture_output=True, check=True)


PRINTS = """
#include <stdio.h>
#include <string.h>
#include "digits.h"

int main(void) {
  static const int shape[DIGITS_IMAGE_RANK] = DIGITS_IMAGE_SHAPE;
  static const float pixel[] = DIGITS_IMAGE_PIXEL_SCALE;
  digits_image_t stored[DIGITS_IMAGE_ELEMENTS];
  fwrite(digits_model, 1, DIGITS_SIZE, stdout);
  fprintf(stdout, "|%d|%d|%d|%.9g|%d|%.9g|%d|%d", (int)((uintptr_t)digits_model % 16), shape[1],
          (int)sizeof stored, (double)DIGITS_IMAGE_SCALE, DIGITS_IMAGE_ZERO_POINT,
          (double)pixel[0], DIGITS_LOGITS_OUTPUT_INDEX, DIGITS_LABEL_COUNT);
  for (int i = 0; i < DIGITS_LABEL_COUNT; ++i) fprintf(stdout, "|%s", digits_labels[i]);
  return 0;
}
"""


@needs_a_compiler
@pytest.mark.parametrize("language", [("-std=c11",), ("-x", "c++", "-std=c++17")])
def test_the_array_is_the_artifact(
    package: Package, exported: Path, language: tuple[str, ...]
) -> None:
    model = package.model.read_bytes()
    told = compiled(exported, language, PRINTS).stdout
    assert told[: len(model)] == model
    quantization = package.signature.inputs[0].quantization
    assert quantization is not None
    _, aligned, height, elements, scale, zero, pixel, index, count, *labels = (
        told[len(model) :].decode().split("|")
    )
    assert (aligned, height, elements) == ("0", "8", "64")
    assert np.float32(scale) == np.float32(quantization.scale)
    assert int(zero) == quantization.zero_point
    assert (float(pixel), index, count) == (1 / 16, "0", "10")
    assert tuple(labels) == LABELS


def test_the_operators_are_those_of_the_model(exported: Path) -> None:
    told = (exported / "digits_operators.h").read_text()
    assert "constexpr unsigned int k_digits_operators = 6;" in told
    assert told.count("resolver.Add") == 6
    assert "resolver.AddConv2D()" in told


RESOLVER = """
#include <cstdio>
#include <set>
#include <string>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct Resolver {
%s
  std::set<std::string> added;
};
#include "digits_operators.h"
int main() {
  Resolver resolver;
  return digits_register(resolver) == kTfLiteOk && resolver.added.size() == k_digits_operators
             ? 0 : 1;
}
"""


@needs_a_compiler
def test_the_operators_register(exported: Path, tmp_path: Path) -> None:
    header = tmp_path / "tensorflow" / "lite" / "micro" / "micro_mutable_op_resolver.h"
    header.parent.mkdir(parents=True)
    header.write_text("#pragma once\n")
    names = ("Conv2D", "FullyConnected", "Pad", "Relu", "Reshape", "Transpose")
    methods = "\n".join(
        f'  TfLiteStatus Add{n}() {{ added.insert("{n}"); return kTfLiteOk; }}' for n in names
    )
    (tmp_path / "main.cpp").write_text(RESOLVER % methods)
    command = ["g++", "-std=c++17", *STRICT, "-I", str(tmp_path), "-I", str(exported)]
    program = tmp_path / "program"
    subprocess.run([*command, str(tmp_path / "main.cpp"), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


def test_a_model_too_large_for_an_array(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_array, "_MAX_BYTES", 1000)
    with pytest.raises(EdgekitError, match="--c takes 1000 at most"):
        c_array.files(package)


def test_an_export_holds_what_is_for_c_alone(litert_bundle: Path, tmp_path: Path) -> None:
    made = exporting.export(litert_bundle, "c", tmp_path / "out")
    assert set(made.record.files) == {"digits.c", "digits.h", "digits_operators.h"}
