"""The Gaussian field, which models predict and the rasterizer draws.

Lengths are in pixels of the low-resolution (LR) picture. LR pixel ``i`` spans ``[i, i + 1)``, so its centre lies at
``i + 0.5``; x runs right, y runs down. The field has no size and no scale: it can be drawn at any resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike

import safetensors.torch
import torch
from torch import Tensor

from gsrcli.runtime.files import write_whole

__all__ = ["Extent", "Gaussians"]

Extent = float | Tensor
"""A length, or a tensor ``(B, 1)`` of lengths, one for each field of a batch."""

_FIELDS = ("centre", "sigma", "rho", "value")


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussians:
    """A batch of ``B`` fields of ``N`` two-dimensional Gaussians with ``C`` channels each.

    The field's colour at a point is ``sum_n value_n * exp(-q_n / 2)``, where with ``d = point - centre``

    ``q = (dx²/σx² - 2ρ·dx·dy/(σx·σy) + dy²/σy²) / (1 - ρ²)``

    (GSASR, arXiv:2501.06838, eq. 3-5, without the normalising constant, as the released models use it).

    Attributes:
        centre: ``(B, N, 2)``, x then y, in LR pixels.
        sigma: ``(B, N, 2)``, marginal standard deviations σx then σy, in LR pixels, > 0.
        rho: ``(B, N)``, correlation, in (-1, 1).
        value: ``(B, N, C)``, the contribution at the centre; any sign, any range.

    Raises:
        ValueError: the four shapes do not match, or the tensors are on different devices.
    """

    centre: Tensor
    sigma: Tensor
    rho: Tensor
    value: Tensor

    def __post_init__(self) -> None:
        lead = self.rho.shape
        fits = (
            len(lead) == 2
            and self.centre.shape == (*lead, 2)
            and self.sigma.shape == (*lead, 2)
            and self.value.dim() == 3
            and self.value.shape[:2] == lead
        )
        if not fits:
            shapes = ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in _FIELDS)
            raise ValueError(f"expected (B, N, 2), (B, N, 2), (B, N) and (B, N, C), got {shapes}")
        devices = {getattr(self, name).device for name in _FIELDS}
        if len(devices) > 1:
            raise ValueError(f"the field's tensors are on different devices: {', '.join(sorted(map(str, devices)))}")

    def __len__(self) -> int:
        """Return the number N of Gaussians in each field of the batch."""
        return self.rho.shape[1]

    @property
    def batch(self) -> int:
        """The number B of fields."""
        return self.rho.shape[0]

    @property
    def channels(self) -> int:
        """The number C of channels."""
        return self.value.shape[2]

    @property
    def device(self) -> torch.device:
        return self.value.device

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tensors centre, sigma, rho and value."""
        return self.centre, self.sigma, self.rho, self.value

    def __getitem__(self, entries: slice) -> Gaussians:
        """Return some of the fields of the batch."""
        return self.map(lambda tensor: tensor[entries])

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """Apply ``function`` to each of the four tensors."""
        return Gaussians(*(function(getattr(self, name)) for name in _FIELDS))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussians:
        """Return the field on another device or in another floating-point type."""
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype))

    def detach(self) -> Gaussians:
        return self.map(Tensor.detach)

    def is_finite(self) -> bool:
        """Return whether every number of the field is finite. The host waits for the device once."""
        return bool(torch.stack([getattr(self, name).isfinite().all() for name in _FIELDS]).all())

    def shift(self, dx: float, dy: float) -> Gaussians:
        """Move every Gaussian by ``(dx, dy)`` LR pixels."""
        x, y = self.centre.unbind(-1)  # plain numbers, unlike a new tensor, reach a device without waiting
        return dataclasses.replace(self, centre=torch.stack((x + dx, y + dy), -1))

    def seen_through(self, footprint: tuple[Extent, Extent]) -> Gaussians:
        """Convolve the field with the footprint of a pixel, a Gaussian of weight 1.

        Each Gaussian stays a Gaussian: the footprint's covariance is added to its own, and its height falls as its area
        grows.

        Args:
            footprint: standard deviations (y, x), in LR pixels; tensors ``(B, 1)`` give each field its own.
        """
        x, y = self.sigma.unbind(-1)
        wide_x, wide_y = (x.square() + footprint[1] ** 2).sqrt(), (y.square() + footprint[0] ** 2).sqrt()
        narrowing = (x * y) / (wide_x * wide_y)
        rho = self.rho * narrowing
        # √(det Σ / det Σ'), where det Σ = σx²·σy²·(1 − ρ²).
        height = narrowing * ((1 - self.rho.square()) / (1 - rho.square())).sqrt()
        return Gaussians(self.centre, torch.stack((wide_x, wide_y), -1), rho, self.value * height[..., None])

    def select(self, index: Tensor) -> Gaussians:
        """Return the Gaussians at ``index``, a boolean ``(N,)`` mask or integer positions, in every field."""
        return self.map(lambda tensor: tensor[:, index])

    def crop(self, left: float, top: float, right: float, bottom: float) -> Gaussians:
        """Return the Gaussians whose centre lies in ``[left, right) x [top, bottom)``, in LR pixels.

        Raises:
            ValueError: the batch does not hold exactly one field; several would keep different numbers of Gaussians.
        """
        if self.batch != 1:
            raise ValueError(f"crop needs a batch of one field, got {self.batch}")
        x, y = self.centre[0].unbind(-1)
        return self.select((x >= left) & (x < right) & (y >= top) & (y < bottom))

    @staticmethod
    def cat(fields: Sequence[Gaussians]) -> Gaussians:
        """Return the union of several fields, in the given order."""
        return Gaussians(*(torch.cat([getattr(field, name) for field in fields], dim=1) for name in _FIELDS))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the field as a safetensors file with the entries centre, sigma, rho and value."""
        # Cloned because safetensors rejects tensors that share memory.
        tensors = {name: getattr(self, name).detach().cpu().clone().contiguous() for name in _FIELDS}
        metadata = {"format": "gsrcli.gaussians", "unit": "lr_pixel"}
        write_whole(path, safetensors.torch.save(tensors, metadata))

    @staticmethod
    def load(path: str | PathLike[str]) -> Gaussians:
        """Read a field written by :meth:`save`.

        Raises:
            ValueError: the file does not hold a Gaussian field.
        """
        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if set(tensors) != set(_FIELDS):
            raise ValueError(f"{path} holds {sorted(tensors)}, not a Gaussian field")
        return Gaussians(**tensors)
