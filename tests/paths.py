"""Where tests find what they work on; the assets are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"
DIGITS_MODEL = DIGITS / "digits.onnx"
CALIBRATION = DIGITS / "calibration.npz"
EVALUATION = DIGITS / "evaluation.npz"

ASSETS = ROOT.parent / "shared" / "assets"
RESNET20 = ASSETS / "models" / "resnet20_cifar10" / "resnet20_fp32.onnx"
PERSON = ASSETS / "models" / "mlperf_vww_mobilenetv1" / "vww_96_float.onnx"
MNIST = ASSETS / "models" / "mnist_cnn_onnx" / "opt-mnist.onnx"
DATA = ASSETS / "data"

needs_assets = pytest.mark.skipif(
    not ASSETS.is_dir(), reason="the models and data for internal tests are not here"
)
