"""The models by name. A model's own module, and with it torch, is imported when the model is built."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsrcli.models.base import Model, Traits

__all__ = ["MODEL_NAMES", "Model", "Traits", "build", "config_of"]

_GSASR_NAMES = (
    *("gsasr-edsr", "gsasr-rdn", "gsasr-swinir", "gsasr-hatl"),
    *("gsasr-edsr-paper", "gsasr-rdn-paper", "gsasr-swinir-paper"),
)
_GAUSSIANSR_NAMES = ("gaussiansr-edsr", "gaussiansr-edsr-released")
MODEL_NAMES = ("gsasr-lite", *_GSASR_NAMES, *_GAUSSIANSR_NAMES)
"""The architectures that :func:`build` knows."""


def __getattr__(name: str) -> Any:
    """Import the names that need torch at first use (PEP 562)."""
    if name not in ("Model", "Traits"):
        raise AttributeError(f"module 'gsrcli.models' has no attribute {name!r}")
    from gsrcli.models import base

    return getattr(base, name)


def build(name: str, config: dict[str, Any] | None = None) -> Model:
    """Build a model with untrained weights.

    Args:
        name: a name in MODEL_NAMES.
        config: fields of the model's config that differ from its defaults.

    Raises:
        KeyError: the model is unknown.
        TypeError: the config has an unknown field.
    """
    if name == "gsasr-lite":
        from gsrcli.models.lite import Lite, LiteConfig

        return Lite(LiteConfig(**(config or {})))
    if name in _GAUSSIANSR_NAMES:
        from gsrcli.models.gaussiansr import GaussianSR, GaussianSRConfig, ReleasedGaussianSR

        rendering = ReleasedGaussianSR if name.endswith("-released") else GaussianSR
        return rendering(GaussianSRConfig(**(config or {})))
    from gsrcli.models.gsasr import GSASR, GSASR_CONFIGS

    return GSASR(dataclasses.replace(GSASR_CONFIGS[name], **(config or {})))


def config_of(model: Model) -> dict[str, Any]:
    """Return the config from which :func:`build` makes this model, as plain data."""
    return dataclasses.asdict(model.config)  # type: ignore[call-overload]
