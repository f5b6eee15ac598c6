"""Real models with labelled data, where they lie beside the checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import ROOT
from numpy.typing import NDArray

ASSETS = ROOT.parent / "shared" / "assets"
Array = NDArray[Any]


class Subject(NamedTuple):
    """A model, its data if there are any, and how the data become what it takes."""

    model: Path
    calibration: Path | None = None
    evaluation: Path | None = None
    change: Callable[[Array], Array] = lambda x: x


def subjects() -> dict[str, Subject]:
    """The float models of the assets; empty where the assets are not at hand."""

    def at(model: str, data: str = "", change: Callable[[Array], Array] = lambda x: x) -> Subject:
        path = ASSETS / "models" / model
        if not data:
            return Subject(path)
        files = [ASSETS / "data" / f"{data}.{kind}.npz" for kind in ("calib", "eval")]
        return Subject(path, files[0], files[1], change)

    found = {
        "resnet20": at("resnet20_cifar10/resnet20_fp32.onnx", "cifar10_nchw"),
        "mobilenetv1-0.25": at(
            "mlperf_vww_mobilenetv1/vww_96_float.onnx", "person", lambda x: x.transpose(0, 3, 1, 2)
        ),
        "mnist-cnn": at(
            "mnist_cnn_onnx/opt-mnist.onnx", "mnist", lambda x: x.reshape(-1, 1, 28, 28) * 255
        ),
        "resnet8": at("mlperf_ic_resnet8/pretrainedResnet.tflite", "cifar10"),
        "resnet-large": at("mlperf_ic_resnet_large/pretrainedResnet_large_float.tflite", "cifar10"),
        "dscnn": at("mlperf_kws_dscnn/kws_ref_model_true_fp32.tflite", "speech_mfcc"),
        "mnist-lstm": at("mnist_lstm/trained_lstm.tflite", "mnist"),
        "hand-mlp": at("hand_keypoint_mlp/keypoint_classifier.tflite", "hand_keypoint"),
        "autoencoder": at("mlperf_ad_autoencoder/ad01_fp32.tflite"),
        "resnet8-h5": at("mlperf_ic_resnet8/pretrainedResnet.h5"),
        "vww-h5": at("mlperf_vww_mobilenetv1/vww_96.h5"),
        "dscnn-saved-model": at("mlperf_kws_dscnn/kws_ref_model"),
        "wake-word": at("mlperf_sww/str_ww_ref_model.h5"),
    }
    return {name: each for name, each in found.items() if each.model.exists()}


def prepared(path: Path, change: Callable[[Array], Array], work: Path, samples: int) -> Path:
    """The first samples of a file as the model takes them, in a file of the same name."""
    with np.load(path) as archive:
        arrays = {name: array[:samples] for name, array in archive.items()}
    arrays["x"] = np.ascontiguousarray(change(arrays["x"]).astype(np.float32))
    np.savez(work / path.name, allow_pickle=False, **arrays)
    return work / path.name
