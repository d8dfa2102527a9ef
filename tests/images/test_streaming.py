"""Pictures that are written while their rows come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.writing import once, written

from gsrcli.images import Metadata, Picture, fit, output_formats
from gsrcli.images.writers import ENCODERS, Encoding, blocks

FORMATS = [pytest.param(form, id=form.name) for form in output_formats()]
STREAMED = ("PNG", "TIFF", "BMP")


def smooth(height: int, width: int, channels: int, dtype: Any) -> Any:
    """Return waves with some noise."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([(np.sin(x / 7 + k) + np.cos(y / 5 - k)) / 4 + 0.5 for k in range(channels)], axis=-1)
    waves = (waves + np.random.default_rng(0).normal(0, 0.02, waves.shape)).clip(0, 1)
    return waves.astype(np.float32) if dtype == np.float32 else (waves * np.iinfo(dtype).max).astype(dtype)


def picture(height: int, channels: int, dtype: Any, alpha: bool) -> Picture:
    mask = smooth(height, 31, 1, dtype)[..., 0] if alpha else None
    return Picture(smooth(height, 31, channels, dtype), mask, metadata=Metadata(dpi=(300, 300)))


PICTURES = st.builds(
    picture,
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.booleans(),
)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), whole=PICTURES, block=st.integers(1, 4000))
def test_a_file_does_not_depend_on_the_strips(form: Any, data: st.DataObject, whole: Picture, block: int) -> None:
    cuts = data.draw(st.lists(st.integers(0, whole.size.height)))
    fitted, ledger = fit(whole, form, (255, 9, 0))
    in_parts, again = fit(once(whole, cuts), form, (255, 9, 0))
    assert ledger == again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_BYTES", block)
        files = [written(ENCODERS[form.name], each, Encoding()) for each in (fitted, in_parts)]
    assert files[0] == files[1]
