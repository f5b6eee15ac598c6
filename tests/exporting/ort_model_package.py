"""ONNX Runtime's C API for model packages, called in the library that its wheel holds.

The functions stand in tables whose order is the published ABI's and never changes; Python's
binding has none of them. To be run in a process of its own: ``ort_model_package.py PACKAGE``
prints what ONNX Runtime finds there, as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime

VERSION = 31  # of OrtApi; the first whose table has GetModelPackageApi
GET_ERROR_MESSAGE, CREATE_ENV, CREATE_SESSION_OPTIONS = 2, 3, 10
SESSION_GET_INPUT_COUNT, SESSION_GET_OUTPUT_COUNT, GET_MODEL_PACKAGE_API = 30, 31, 427
# Of OrtModelPackageApi.
CREATE_OPTIONS, CREATE_CONTEXT, GET_SCHEMA_VERSION, GET_COMPONENT_NAMES = 0, 2, 4, 6
GET_VARIANT_NAMES, GET_VARIANT_EP, SELECT_COMPONENT = 8, 9, 11
GET_SELECTED_VARIANT, GET_SELECTED_FOLDER, CREATE_SESSION = 13, 14, 15

pointer = ctypes.c_void_p
strings = ctypes.POINTER(ctypes.c_char_p)


class _Base(ctypes.Structure):
    _fields_ = (
        ("GetApi", ctypes.CFUNCTYPE(pointer, ctypes.c_uint32)),
        ("GetVersionString", ctypes.CFUNCTYPE(ctypes.c_char_p)),
    )


def _api() -> int | None:
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    get_base = ctypes.CDLL(str(library)).OrtGetApiBase
    get_base.restype = ctypes.POINTER(_Base)
    return get_base().contents.GetApi(VERSION)


API = _api()


def call(table: int, index: int, *arguments: Any, kind: Any = None) -> Any:
    """The result that a function of a table writes into its last argument."""
    result = kind() if kind else pointer()
    given = [ctypes.c_char_p(a) if isinstance(a, bytes) else a for a in arguments]
    kinds = [ctypes.c_int if isinstance(a, int) else type(a) if a else pointer for a in given]
    function = ctypes.CFUNCTYPE(pointer, *kinds, pointer)(
        (pointer * (index + 1)).from_address(table)[index]
    )
    if status := function(*given, ctypes.addressof(result)):
        said = ctypes.CFUNCTYPE(ctypes.c_char_p, pointer)(
            (pointer * 3).from_address(API)[GET_ERROR_MESSAGE]
        )
        raise SystemExit(said(status).decode())
    return result


def names(table: int, index: int, *arguments: Any) -> list[str]:
    """The strings that a function writes, with their number after them."""
    found, count = strings(), ctypes.c_size_t()
    kinds = [ctypes.c_char_p if isinstance(a, bytes) else pointer for a in arguments]
    function = ctypes.CFUNCTYPE(pointer, *kinds, pointer, pointer)(
        (pointer * (index + 1)).from_address(table)[index]
    )
    assert not function(*arguments, ctypes.addressof(found), ctypes.addressof(count))
    return [found[i].decode() for i in range(count.value)]


def look(package: str) -> dict[str, Any]:
    """What ONNX Runtime finds in a package, and whether it runs what it picks for the CPU."""
    packages = ctypes.CFUNCTYPE(pointer)((pointer * 428).from_address(API)[GET_MODEL_PACKAGE_API])()
    env = call(API, CREATE_ENV, 3, b"test")
    options = call(packages, CREATE_OPTIONS, env, call(API, CREATE_SESSION_OPTIONS))
    context = call(packages, CREATE_CONTEXT, package.encode())
    (component,) = names(packages, GET_COMPONENT_NAMES, context)
    text, key = ctypes.c_char_p, component.encode()
    variants = names(packages, GET_VARIANT_NAMES, context, key)
    chosen = call(packages, SELECT_COMPONENT, context, key, options)
    session = call(packages, CREATE_SESSION, env, chosen, None)
    providers = [
        call(packages, GET_VARIANT_EP, context, key, v.encode(), kind=text).value for v in variants
    ]
    return {
        "schema": call(packages, GET_SCHEMA_VERSION, context, kind=ctypes.c_int64).value,
        "component": component,
        "variants": {v: ep.decode() for v, ep in zip(variants, providers, strict=True)},
        "chosen": call(packages, GET_SELECTED_VARIANT, chosen, kind=text).value.decode(),
        "folder": call(packages, GET_SELECTED_FOLDER, chosen, kind=text).value.decode(),
        "inputs": call(API, SESSION_GET_INPUT_COUNT, session, kind=ctypes.c_size_t).value,
        "outputs": call(API, SESSION_GET_OUTPUT_COUNT, session, kind=ctypes.c_size_t).value,
    }


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1])))  # noqa: T201
