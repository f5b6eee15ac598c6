"""What every format must do; a format's test class subclasses this and adds what is its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from edgekit import datasets, validation
from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, Granularity, Mode, Quantization, Recipe
from edgekit.errors import DataError, ToolError
from edgekit.formats import FORMATS, FormatSpec, Job
from edgekit.sources import SourceModel
from tests.paths import CALIBRATION

STATIC = Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
VARIANTS: dict[str, Quantization | None] = {
    "float32": None,
    "float16": Quantization(mode=Mode.FLOAT16, weights="float16", activations="float32"),
    "int8-static": STATIC,
    "int8-static-int16": Quantization(
        mode=Mode.STATIC, weights="int8", activations="int16", symmetric_activations=True
    ),
    "int8-dynamic": Quantization(mode=Mode.DYNAMIC, weights="int8", activations="float32"),
    "int8-weight-only": Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32"),
}
COSINE = {"float32": 1 - 1e-9, "float16": 1 - 1e-5, "int8-static-int16": 0.9999}
QUANTIZED_COSINE = 0.995
SHARE = {
    **dict.fromkeys(("int8-static", "int8-weight-only"), 0.4),
    **dict.fromkeys(("int8-dynamic", "int8-static-int16"), 0.45),
    "float16": 0.6,
}
"""The most that an artifact may take of the float one's bytes."""


class FormatContract:
    """Subclass, and set ``format``."""

    format: Format

    refuses: frozenset[str] = frozenset()
    """Precisions that the format has no form for."""

    skips_zeros = False
    """Weights that are zero need not be stored."""

    shares: Mapping[str, float] = SHARE

    @pytest.fixture
    def spec(self) -> FormatSpec:
        return FORMATS[self.format]

    def job(
        self,
        source: SourceModel,
        folder: Path,
        cache: Path,
        *,
        quantization: Quantization | None = None,
        calibration: Dataset | None = None,
    ) -> Job:
        recipe = Recipe(format=self.format, runtime="any", quantization=quantization)
        return Job(
            source=source, recipe=recipe, folder=folder, calibration=calibration, cache=cache
        )

    @pytest.mark.usefixtures("here")
    @pytest.mark.parametrize("precision", VARIANTS)
    def test_every_precision_is_right(
        self,
        spec: FormatSpec,
        reference: validation.Reference,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
        precision: str,
    ) -> None:
        job = self.job(
            reference.source,
            tmp_path,
            cache,
            quantization=VARIANTS[precision],
            calibration=calibration,
        )
        if precision in self.refuses:
            with pytest.raises(ToolError, match=f"{precision} cannot be made"):
                spec.make(job)
            return
        artifact = spec.make(job)
        self.check_record(artifact, tmp_path)
        report, _ = validation.validate(
            reference,
            artifact,
            tmp_path,
            spec.host_runtime,
            infer=spec.infer,
            metric=validation.METRICS["top1"],
            max_drop=0.01,
        )
        assert report.passed, report
        assert report.per_output[0].cosine >= COSINE.get(precision, QUANTIZED_COSINE)
        floats = 4 * 9_930
        assert artifact.size_bytes <= self.shares.get(precision, 1.2) * floats

    def check_record(self, artifact: Artifact, folder: Path) -> None:
        """What the artifact says of itself is what lies there."""
        assert artifact.format is self.format
        own = [folder / name for name in artifact.files if name.startswith(artifact.path)]
        assert artifact.size_bytes == sum(path.stat().st_size for path in own)
        if not artifact.parts:
            content = (folder / artifact.path).read_bytes()
            assert artifact.sha256 == hashlib.sha256(content).hexdigest()
        counted = FORMATS[self.format].operators(folder / artifact.path)
        convolutions = [n for name, n in counted.items() if "conv" in name.lower()]
        assert sum(convolutions) == 2, counted
        assert [b.source.name for b in artifact.inputs] == ["image"]
        assert [b.source.name for b in artifact.outputs] == ["logits"]

    @pytest.mark.usefixtures("here")
    def test_one_scale_for_a_tensor_takes_less_and_is_right(
        self,
        spec: FormatSpec,
        reference: validation.Reference,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        made = {}
        for granularity in (Granularity.PER_CHANNEL, Granularity.PER_TENSOR):
            (folder := tmp_path / granularity.value).mkdir()
            how = structs.replace(STATIC, granularity=granularity)
            job = self.job(
                reference.source, folder, cache, quantization=how, calibration=calibration
            )
            made[granularity] = spec.make(job)
        coarse = made[Granularity.PER_TENSOR]
        assert coarse.size_bytes < made[Granularity.PER_CHANNEL].size_bytes
        report, _ = validation.validate(
            reference,
            coarse,
            tmp_path / Granularity.PER_TENSOR.value,
            spec.host_runtime,
            infer=spec.infer,
            metric=validation.METRICS["top1"],
            max_drop=0.02,
        )
        assert report.passed, report

    def test_zeros_that_save_nothing_are_refused(
        self, spec: FormatSpec, source: SourceModel, cache: Path, tmp_path: Path
    ) -> None:
        """Rather than made without them, or with them for nothing."""
        for precision in ("float16", "int8-weight-only"):
            sparse = structs.replace(VARIANTS[precision], sparsity=0.5)
            job = self.job(source, tmp_path, cache, quantization=sparse)
            if self.skips_zeros:
                assert spec.make(job).size_bytes
                continue
            with pytest.raises(ToolError, match=f"{precision}-sparse-50 .* neither bytes nor time"):
                spec.make(job)

    def test_static_needs_calibration(
        self, spec: FormatSpec, source: SourceModel, cache: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="calibration"):
            spec.make(self.job(source, tmp_path, cache, quantization=STATIC))
        assert not list(tmp_path.glob("model.*"))

    def test_equal_jobs_give_equal_bytes(
        self, spec: FormatSpec, source: SourceModel, calibration: Dataset, tmp_path: Path
    ) -> None:
        made = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            job = self.job(source, folder, folder, quantization=STATIC, calibration=calibration)
            made.append(spec.make(job).sha256)
        assert made[0] == made[1]

    @pytest.mark.usefixtures("here")
    def test_the_source_is_left_alone(
        self, spec: FormatSpec, source: SourceModel, tmp_path: Path
    ) -> None:
        before = source.graph.read_bytes()
        spec.make(self.job(source, tmp_path, tmp_path))
        assert source.graph.read_bytes() == before

    @pytest.mark.usefixtures("here")
    def test_calibration_decides_the_ranges(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        """Other data, other scales: the samples are really looked at."""
        with np.load(CALIBRATION) as archive:
            np.savez(tmp_path / "brighter.npz", x=archive["x"] * 4)
        brighter = datasets.load(tmp_path / "brighter.npz", source.inputs)
        made = []
        for index, data in enumerate((calibration, brighter)):
            folder = tmp_path / str(index)
            folder.mkdir()
            made.append(
                spec.make(self.job(source, folder, cache, quantization=STATIC, calibration=data))
            )
        assert made[0].sha256 != made[1].sha256

    @pytest.mark.usefixtures("here")
    def test_every_sample_counts(
        self, spec: FormatSpec, source: SourceModel, cache: Path, tmp_path: Path
    ) -> None:
        """One bright sample among 64, wherever it stands, widens the ranges."""
        with np.load(CALIBRATION) as archive:
            plain = archive["x"][:64]
        made = {}
        for outlier in (None, 0, 31, 63):
            (folder := tmp_path / str(outlier)).mkdir()
            samples = plain.copy()
            if outlier is not None:
                samples[outlier] *= 50
            np.savez(folder / "x.npz", x=samples)
            data = datasets.load(folder / "x.npz", source.inputs)
            job = self.job(source, folder, cache, quantization=STATIC, calibration=data)
            made[outlier] = spec.make(job).sha256
        untouched = made.pop(None)
        assert untouched not in made.values(), made

    @pytest.mark.usefixtures("here")
    def test_the_artifact_crosses_processes_as_json(
        self, spec: FormatSpec, source: SourceModel, cache: Path, tmp_path: Path
    ) -> None:
        artifact = spec.make(self.job(source, tmp_path, cache))
        assert msgspec.json.decode(msgspec.json.encode(artifact), type=Artifact) == artifact
