"""The first screen looks as it did: coarse grey pictures beside this file.

Tolerance: a picture has a cell for each 10 × 10 pixels. Cells that differ by more than 24 of 255 grey levels may be
at most 8 % as many as the cells that have something on them, so that a picture that is gone does not pass. After a change of the design, write them anew
with DML_WRITE_SCREENSHOTS=1 and look at them.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.pages

FOLDER = Path(__file__).parent
CELL, LEVELS, SHARE = 10, 24, 0.08


@pytest.mark.parametrize(("width", "height", "colours"), [(1440, 900, "light"), (390, 840, "dark")])
def test_first_screen_looks_as_it_did(visit, index, width, height, colours):
    """Would catch a stylesheet that does not apply, blocks that overlap, or a picture that is gone."""
    page = visit(index, width=width, height=height, colours=colours)
    # Nothing of photographs is kept.
    page.add_style_tag(content=".strip img { visibility: hidden; }")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    coarse = shot.resize((width // CELL, height // CELL), Image.Resampling.BOX)
    path = FOLDER / f"first_screen_{width}_{colours}.png"
    if os.environ.get("DML_WRITE_SCREENSHOTS"):
        coarse.save(path, optimize=True)
    before = np.asarray(Image.open(path)).astype(int)
    background = np.median(before)
    inked = (np.abs(before - background) > LEVELS).sum()
    assert (np.abs(before - np.asarray(coarse)) > LEVELS).sum() <= SHARE * inked
