"""TensorRT's engines, which take minutes to build: kept where there is a cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any, Dict

from .content import digest

PROVIDER = "TensorrtExecutionProvider"


def options(path: Path, runtime: str) -> Dict[str, Any]:
    """What ONNX Runtime is to tell its provider; nothing without a cache folder.

    After onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html,
    "Configurations". The folder is the one of systemd.exec(5), ``CacheDirectory=``.

    Args:
        path: the artifact.
        runtime: ONNX Runtime's version.
    """
    cache = os.environ.get("CACHE_DIRECTORY")
    if not cache:
        return {}
    # An engine is for one model, its weights too, and one version of each library.
    versions = f"onnxruntime-{runtime}-tensorrt-{_version()}"
    folder = Path(cache) / versions / digest(path)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }


def _version() -> str:
    """As its library tells it: NvInfer.h, ``getInferLibVersion``."""
    for name in ("libnvinfer.so", "libnvinfer.so.10", "libnvinfer.so.8"):
        with contextlib.suppress(OSError, AttributeError):
            return str(ctypes.CDLL(name).getInferLibVersion())
    return "unknown"
