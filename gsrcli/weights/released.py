"""Convert the state dicts that the authors of GSASR (arXiv:2501.06838) and GaussianSR (arXiv:2407.18046) released.

A released GSASR is two files, ``encoder.pth`` and ``decoder.pth``. The conversion

- renames tensors by the tables below;
- joins tensors along the first axis where one of our layers does the work of several (queries, keys and values; the
  first layers of the heads);
- keeps only the value and output projections of the attention to the scale: its queries and keys, and the norm that
  only feeds its queries, have no effect (see :mod:`gsrcli.models.gsasr`);
- reorders the rows of relative position bias tables as :func:`relative_position_index` has them: the released files
  store an index beside each table, and the cross attention's differs from Swin's;
- drops tables that follow from a window's side, after checking them: the positions of tokens, and the masks that
  SwinIR keeps for pictures of 48x48;
- drops HAT's indices into relative position bias tables: it has rotary positions instead.

A released GaussianSR is one file. Its tensors are renamed, the rows of the frequencies reordered, and EDSR's layers for
the mean shift, which have no effect, dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gsrcli.models.attention import relative_position_index, shift_mask, token_positions
from gsrcli.models.gaussiansr import ReleasedGaussianSR
from gsrcli.models.gsasr import GSASR, GSASR_CONFIGS, HEADS, GSASRConfig

__all__ = ["convert", "convert_gaussiansr"]

# Tables of names, ours to theirs; ``#`` stands for an index, and several of theirs are joined into one of
# ours. An entry covers all names that begin with it; longer entries take precedence, then entries with fewer
# ``#``. Names that no entry covers are the same on both sides.
_Names = dict[str, tuple[str, ...]]


def _block_names(ours: str, theirs: str, attention: str, scale_mlp: str, mlp: str, norms: str) -> _Names:
    """Return the names in either kind of decoder block; ``norms`` are the digits of scale, attention and MLP norm."""
    layer, their_layer = f"{ours}.layers.#", f"{theirs}.blocks.#"
    their_attention = f"{their_layer}.{attention}"
    return {
        ours: (theirs,),
        f"{layer}.scale.value.weight": (f"{their_layer}.gs_cross_attn_scale.in_proj_weight",),
        f"{layer}.scale.value.bias": (f"{their_layer}.gs_cross_attn_scale.in_proj_bias",),
        f"{layer}.scale.output": (f"{their_layer}.gs_cross_attn_scale.out_proj",),
        f"{layer}.scale.norm": (f"{their_layer}.norm{norms[0]}",),
        f"{layer}.scale.mlp.0": (f"{their_layer}.{scale_mlp}.fc1",),
        f"{layer}.scale.mlp.2": (f"{their_layer}.{scale_mlp}.fc2",),
        f"{layer}.attention_norm": (f"{their_layer}.norm{norms[1]}",),
        f"{layer}.attention.qkv": tuple(f"{their_attention}.{part}head" for part in "qkv"),
        f"{layer}.attention.position.frequencies": (f"{their_attention}.rope_freqs",),
        f"{layer}.attention.position.table": (f"{their_attention}.relative_position_bias_table",),
        f"{layer}.attention.output": (f"{their_attention}.proj",),
        f"{layer}.mlp_norm": (f"{their_layer}.norm{norms[2]}",),
        f"{layer}.mlp.0": (f"{their_layer}.{mlp}.fc1",),
        f"{layer}.mlp.2": (f"{their_layer}.{mlp}.fc2",),
    }


def _layer_names(ours: str, theirs: str, attention: str = "") -> _Names:
    """Return the names in a layer of SwinIR or HAT; ``attention`` is the prefix of its attention's names."""
    return {
        f"{ours}.attention_norm": (f"{theirs}.norm1",),
        f"{ours}.attention.qkv": (f"{theirs}.{attention}qkv",),
        f"{ours}.attention.position.frequencies": (f"{theirs}.{attention}rope_freqs",),
        f"{ours}.attention.position.table": (f"{theirs}.{attention}relative_position_bias_table",),
        f"{ours}.attention.output": (f"{theirs}.{attention}proj",),
        f"{ours}.mlp_norm": (f"{theirs}.norm2",),
        f"{ours}.mlp.0": (f"{theirs}.mlp.fc1",),
        f"{ours}.mlp.2": (f"{theirs}.mlp.fc2",),
    }


_DECODER: _Names = {
    "embedding": ("gs_embedding",),
    "position": ("pos_embedding",),
    "scale_embedding": ("scale_mlp",),
    "feature_projection": ("img_feat_proj",),
    **_block_names(
        "condition_injection.#",
        "window_crossattn_blocks.#",
        attention="window_cross_attn",
        scale_mlp="mlp_crossattn_scale",
        mlp="mlp_crossattn_feature",
        norms="234",
    ),
    **_block_names(
        "gaussian_interaction.#",
        "gs_selfattn_blocks.#",
        attention="gs_self_attn",
        scale_mlp="mlp_crossattn",
        mlp="mlp_selfattn",
        norms="412",
    ),
    "conv": ("conv_final",),
    "head.upsample1": ("UPNet.0",),
    "head.upsample2": ("UPNet.2",),
    "head.first": tuple(f"mlp_block_{field}.0" for field in HEADS),
    **{f"head.second.{i}": (f"mlp_block_{field}.2",) for i, field in enumerate(HEADS)},
    **{f"head.third.{i}": (f"mlp_block_{field}.4",) for i, field in enumerate(HEADS)},
}

_TRANSFORMER: _Names = {
    "norm_first": ("patch_embed.norm",),
    "groups.#": ("layers.#",),
    **_layer_names("groups.#.layers.#", "layers.#.residual_group.blocks.#", "attn."),
    "conv_last": ("conv_before_upsample.0",),
}

_HYBRID = "groups.#.layers.#.attention.channels"
_CHANNELS = "layers.#.residual_group.blocks.#.conv_block.cab"

_ENCODERS: dict[str, _Names] = {
    "edsr": {},
    "rdn": {
        "shallow1": ("SFENet1",),
        "shallow2": ("SFENet2",),
        "blocks.#.convs.#": ("RDBs.#.convs.#.conv.0",),
        "blocks.#.fusion": ("RDBs.#.LFF",),
        "fusion": ("GFF",),
    },
    "swinir": _TRANSFORMER,
    "hatl": {
        **_TRANSFORMER,
        f"{_HYBRID}.#": (f"{_CHANNELS}.#",),
        f"{_HYBRID}.3.squeeze": (f"{_CHANNELS}.3.attention.1",),
        f"{_HYBRID}.3.excite": (f"{_CHANNELS}.3.attention.3",),
        # The last layer of a group has overlapping windows.
        **_layer_names("groups.#.layers.6", "layers.#.residual_group.overlap_attn"),
    },
}

_GAUSSIANSR: _Names = {
    "encoder.conv_first": ("encoder.edsr.head.0",),
    "encoder.body.#.conv1": ("encoder.edsr.body.#.body.0",),
    "encoder.body.#.conv2": ("encoder.edsr.body.#.body.2",),
    "encoder.conv_after_body": ("encoder.edsr.body.16",),
    "classifier": ("encoder.segmentation_head.0",),
    # Their x axis runs down the picture.
    "bank": ("sigma_y", "sigma_x", "rho", "opacity"),
    "decoder.spectrum": ("coef", "freq"),
    "decoder.phase": ("phase",),
    "decoder.mlp": ("dec.layers",),
}
_BANK_SHAPES: dict[str, tuple[int, ...]] = {"sigma_x": (100,), "sigma_y": (100,), "rho": (100, 1), "opacity": (100, 1)}
_COLOUR_SHIFTS: dict[str, tuple[int, ...]] = {
    f"encoder.edsr.{layer}.{leaf}": shape
    for layer in ("sub_mean", "add_mean")
    for leaf, shape in (("weight", (3, 3, 1, 1)), ("bias", (3,)))
}

_BIAS_TABLE, _BIAS_INDEX = ".relative_position_bias_table", ".relative_position_index"
# HAT's indices into bias tables, which it does not have.
_UNUSED_INDICES = {
    "hatl": {
        "encoder.relative_position_index_SA": (16**2, 16**2),
        "encoder.relative_position_index_OCA": (16**2, 24**2),
    }
}


class _Recipe(NamedTuple):
    """How to make one of our tensors: join the last ``rows`` rows of each of the released tensors."""

    rows: int
    shapes: dict[str, tuple[int, ...]]

    def make(self, state: Mapping[str, Tensor]) -> Tensor:
        (first, *_) = self.shapes
        if first.endswith(_BIAS_TABLE):
            return state[first][_rows_by_offset(first, state[first.replace(_BIAS_TABLE, _BIAS_INDEX)])]
        return torch.cat([state[name][-self.rows :] for name in self.shapes])


def _rows_by_offset(table: str, index: Tensor) -> Tensor:
    """Return the released table's row for each row of ours, from the released index of queries and keys."""
    ours = relative_position_index(math.isqrt(len(index)))
    rows = torch.zeros(int(ours.max()) + 1, dtype=torch.long)
    rows[ours] = index.cpu().long()
    if not torch.equal(rows[ours], index.cpu().long()):
        raise ValueError(f"the index beside {table} does not depend on offsets alone")
    return rows


def convert(name: str, encoder_state: Mapping[str, Any], decoder_state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert a released model's two state dicts to the state dict of our ``GSASR(GSASR_CONFIGS[name])``.

    Args:
        name: a name in ``GSASR_CONFIGS``.
        encoder_state: content of ``encoder.pth``: a state dict, or one under ``params_ema``.
        decoder_state: content of ``decoder.pth``, likewise.

    Raises:
        ValueError: the name is unknown, or a tensor is missing, unexpected or has another shape or content than the
            model's; the message gives the released names.
    """
    if name not in GSASR_CONFIGS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(GSASR_CONFIGS)}")
    config = GSASR_CONFIGS[name]
    parts = {"encoder": encoder_state, "decoder": decoder_state}
    state: dict[str, Tensor] = {
        f"{part}.{key}": tensor
        for part, entries in parts.items()
        for key, tensor in entries.get("params_ema", entries).items()
    }
    with torch.device("meta"):
        ours = GSASR(config).state_dict()
    recipes = {key: _recipe(config, key, tuple(tensor.shape)) for key, tensor in ours.items()}
    used = {name: shape for recipe in recipes.values() for name, shape in recipe.shapes.items()}
    needed = used | _UNUSED_INDICES.get(config.encoder, {}) | dict(_unused_norms(used)) | dict(_bias_indices(used))
    _check(name, state, needed, set(_derived_tables(used)))
    return {key: recipe.make(state) for key, recipe in recipes.items()}


def convert_gaussiansr(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert the released GaussianSR to the state dict of our :class:`ReleasedGaussianSR`.

    Args:
        checkpoint: content of ``epoch-last.pth``: the state dict is under ``model`` and ``sd``.

    Raises:
        ValueError: a tensor is missing, unexpected or has another shape than the model's; the message gives the
            released names.
    """
    state = dict(checkpoint.get("model", {}).get("sd", {}))
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in ReleasedGaussianSR().state_dict().items()}
    theirs = {key: _translated(key, _GAUSSIANSR) for key in shapes}
    parts = {key: (shape[0] // len(theirs[key]), *shape[1:]) for key, shape in shapes.items()}
    needed = {name: parts[key] for key, names in theirs.items() for name in names}
    _check("gaussiansr-edsr-released", state, needed | _BANK_SHAPES | _COLOUR_SHIFTS, set())
    for name in ("freq.weight", "freq.bias"):  # theirs alternate between y and x
        state[name] = torch.cat((state[name][0::2], state[name][1::2]))
    return {key: torch.cat([state[name].reshape(parts[key]) for name in names]) for key, names in theirs.items()}


def _recipe(config: GSASRConfig, ours: str, shape: tuple[int, ...]) -> _Recipe:
    theirs = _theirs(config, ours)
    rows = shape[0] // len(theirs)
    # The scale's projections to queries, keys and values are stacked in one tensor.
    height = 3 * rows if ".in_proj_" in theirs[0] else rows
    return _Recipe(rows, dict.fromkeys(theirs, (height, *shape[1:])))


def _theirs(config: GSASRConfig, ours: str) -> tuple[str, ...]:
    """Return the released names, beginning with ``encoder.`` or ``decoder.``, of one of our names."""
    if ours.startswith("encoder."):
        part, name, names = "encoder", ours.removeprefix("encoder."), _ENCODERS[config.encoder]
    else:
        part, name, names = "decoder", ours, _DECODER
    return tuple(f"{part}.{their_name}" for their_name in _translated(name, names))


def _translated(name: str, names: _Names) -> tuple[str, ...]:
    """Return the released names of one of our names."""
    for entry in sorted(names, key=lambda entry: (-len(entry), entry.count("#"))):
        match = re.match(re.escape(entry).replace(r"\#", r"(\d+)") + r"(?![^.])", name)
        if match:
            tail = name[match.end() :]
            return tuple(f"{_fill(template, match.groups())}{tail}" for template in names[entry])
    return (name,)


def _fill(template: str, indices: tuple[str, ...]) -> str:
    return template.replace("#", "{}").format(*indices)


def _check(name: str, state: Mapping[str, Tensor], needed: dict[str, tuple[int, ...]], derived: set[str]) -> None:
    """Check that a released state dict contains the needed tensors, and no others except derived tables.

    Raises:
        ValueError: it does not; the message has one line per fault.
    """
    faults = [
        *(f"missing: {name}" for name in needed if name not in state),
        *(f"unexpected: {name}" for name in state if name not in needed and name not in derived),
        *(
            f"{name} has shape {tuple(state[name].shape)} instead of {shape}"
            for name, shape in needed.items()
            if name in state and tuple(state[name].shape) != shape
        ),
        *(f"{name} has unexpected content" for name in derived if name in state and not _is_table(name, state[name])),
    ]
    if faults:
        raise ValueError(f"these are not the tensors of {name}:\n" + "\n".join(faults))


def _unused_norms(used: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the norms, one per layer, that only feed the queries of the attention to the scale."""
    for name, shape in used.items():
        layer, found, _ = name.partition(".gs_cross_attn_scale.out_proj.bias")
        if found:
            norm = "norm1" if "window_crossattn_blocks" in layer else "norm3"
            yield from ((f"{layer}.{norm}.{leaf}", shape) for leaf in ("weight", "bias"))


def _bias_indices(used: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the index beside each relative position bias table, which maps pairs of a window's tokens to offsets."""
    for name, shape in used.items():
        if name.endswith(_BIAS_TABLE):
            tokens = ((math.isqrt(shape[0]) + 1) // 2) ** 2
            yield name.replace(_BIAS_TABLE, _BIAS_INDEX), (tokens, tokens)


def _derived_tables(used: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield the tables that follow from a window's side: rotary positions, and masks of SwinIR's shifted windows."""
    for name in used:
        stem, _, leaf = name.rpartition(".")
        if leaf == "rope_freqs":
            yield from (f"{stem}.rope_t_x", f"{stem}.rope_t_y")
        if re.search(rf"\.\d*[13579]\.attn{re.escape(_BIAS_TABLE)}$", name):
            yield f"{stem.removesuffix('.attn')}.attn_mask"


def _is_table(name: str, table: Tensor) -> bool:
    if name.endswith("attn_mask"):
        visible = shift_mask(48, 48, side=8, distance=4, device=torch.device("cpu"))
        expected = torch.zeros(visible.shape).masked_fill(~visible, -100)
    else:
        x, y = token_positions(math.isqrt(len(table)) if table.dim() else 0)
        expected = x if name.endswith("_x") else y
    return table.shape == expected.shape and bool((table.cpu() == expected).all())
