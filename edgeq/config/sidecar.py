"""NAME.yaml beside a drop -> Sidecar: what only the model's owner knows about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edgeq.config.document import parse_document, read_document
from edgeq.config.fields import Count, Number, Ratio, Section
from edgeq.config.schema import Method, SwapPolicy
from edgeq.config.validation import validate
from edgeq.samples.image import Preprocessing

DIGEST = re.compile(r"[0-9a-fA-F]{64}")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int | float) else value


def _hex_digest(value: str) -> str:
    if not DIGEST.fullmatch(value):
        raise ValueError("expected 64 hex digits")
    return value.lower()


PerChannel = Annotated[tuple[Number, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Preprocess(Section):
    """How an image becomes the model's input: (pixel * scale - mean) / std."""

    size: tuple[Count, Count] | None = Field(
        default=None, description="width and height, pixels; null: the model's"
    )
    resize: Literal["bilinear", "nearest", "area"] = "bilinear"
    crop: Literal["none", "center"] = Field(
        default="none", description="center keeps the aspect and cuts the edges"
    )
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    mean: PerChannel = Field(default=(0.0,), description="one number, or one for each channel")
    std: PerChannel = Field(default=(1.0,), description="one number, or one for each channel")
    scale: Number = Field(default=1.0, description="multiplies the pixel, 0 to 255, first")
    layout: Literal["nhwc", "nchw"] = "nhwc"

    @model_validator(mode="after")
    def _std_divides(self) -> Preprocess:
        if 0.0 in self.std:
            raise ValueError("preprocessing.std holds 0; a deviation divides")
        return self

    @property
    def options(self) -> Preprocessing:
        """What reads images."""
        return Preprocessing(**self.model_dump())


class Gate(Section):
    """Thresholds of the gate for this model alone; null: the configuration's."""

    agreement: Ratio | None = None
    cosine: Annotated[Number, Field(ge=-1, le=1)] | None = None
    sqnr_db: Number | None = None


class Limits(Section):
    """Limits of the probation for this model alone; they hold for another model, too."""

    max_latency_ratio: Annotated[Number, Field(ge=1)] | None = None
    max_disagreement_ratio: Ratio | None = None


class Sidecar(Section):
    """All that a sidecar can say."""

    preprocessing: Preprocess = Preprocess()
    task: Literal["auto", "classification", "regression"] = "auto"
    gate: Gate = Gate()
    method: Method | None = None
    sha256: Annotated[str, AfterValidator(_hex_digest)] | None = None
    policy: SwapPolicy | None = None
    interface: Literal["keep", "replace"] = Field(
        default="keep", description="replace: a drop may have other inputs and outputs"
    )
    probation: Limits = Limits()


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar.

    Raises:
        ConfigError: names file, line, key and what was expected.
    """
    return validate(Sidecar, read_document(path))


def parse_sidecar(path: Path, content: bytes) -> tuple[Sidecar, str]:
    """Read what the sidecar at `path` holds; returns its SHA-256 too. Errors as `read_sidecar`."""
    document = parse_document(path, content)
    return validate(Sidecar, document), document.sha256
