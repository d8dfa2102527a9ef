"""The encoders of GSASR: published networks up to their upsamplers, all with 64 output channels.

An encoder is a module from ``(B, 3, h, w)`` in [0, 1] to ``(B, 64, h, w)``, built without arguments. Encoders with
windows need h and w to be multiples of the window's side: 8 for SwinIR, 16 for HAT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from gsrcli.models.encoders.edsr import EDSR
from gsrcli.models.encoders.hat import HAT
from gsrcli.models.encoders.rdn import RDN
from gsrcli.models.encoders.swinir import SwinIR

__all__ = ["CHANNELS", "ENCODERS", "build_encoder"]

CHANNELS = 64

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "edsr": partial(EDSR, long_skip=False),
    "rdn": RDN,
    "swinir": SwinIR,
    "hatl": HAT,
}


def build_encoder(name: str) -> nn.Module:
    """Build an encoder with untrained weights.

    Raises:
        ValueError: the encoder is unknown.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    return ENCODERS[name]()
