"""How well heat maps find what a bounding box holds. NumPy; no torch.

Two measures over queries: the share of a map's heat that lies inside the box, and the pointing game
(Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018; here without a tolerance
around the box): whether the hottest pixel lies inside. Birds stand in the middle of pictures and
fill them: so beside each figure stand those of a uniform map and of a centred Gaussian.
"""

import numpy as np
import pandas as pd
from PIL import Image

from dmlstudy.data.dataset import BOX
from dmlstudy.data.resizing import parse_resize
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval

# Standard deviation of the centred Gaussian, as a share of the image's side.
GAUSSIAN_WIDTH = 0.25
# A figure's columns: its mean and its interval.
ENDS = ("", "_low", "_high")
CORNERS = ["box_left", "box_top", "box_right", "box_bottom"]


def boxes_in_crops(manifest, resize, image_size):
    """Boxes as the model sees them: float64 (n, 4): left, top, right, bottom in pixels of the crop.

    ``manifest``: rows of a manifest; ``resize``: name of the test pack's resize ("shorter224"). A box
    is moved as the test transform moves its image (resize, centre crop) and cut at the crop's
    edges. NaN where the manifest has no boxes or nothing of a box is left.
    """
    if not set(BOX) <= set(manifest.columns):
        return np.full((len(manifest), 4), np.nan)
    resize_by = parse_resize(resize)
    boxes = np.empty((len(manifest), 4))
    rows = manifest[["width", "height", *BOX]].to_numpy(dtype=np.float64)
    for index, (width, height, x, y, box_width, box_height) in enumerate(rows):
        new_width, new_height = resize_by.size_of(int(width), int(height))
        # Python rounds half to even, as the crop does.
        left, top = round((new_width - image_size) / 2), round((new_height - image_size) / 2)
        across, down = new_width / width, new_height / height
        boxes[index] = (
            x * across - left,
            y * down - top,
            (x + box_width) * across - left,
            (y + box_height) * down - top,
        )
    boxes = boxes.clip(0, image_size)
    boxes[(boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])] = np.nan
    return boxes


def inside(box, image_size):
    """Mask (image_size, image_size): which pixels have their centre in ``box`` (4,)."""
    centres = np.arange(image_size) + 0.5
    left, top, right, bottom = box
    rows, columns = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
    return rows[:, None] & columns[None, :]


def enlarged(heat, image_size):
    """A heat map (h, w) at the size of the image, bilinear: float32 (image_size, image_size)."""
    picture = Image.fromarray(np.asarray(heat, dtype=np.float32))
    return np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))


def share_in_box(heat, mask):
    """Share of the heat (h, w) that lies inside ``mask`` (h, w); NaN for a map without heat."""
    total = heat.sum(dtype=np.float64)
    return float(heat[mask].sum(dtype=np.float64) / total) if total > 0 else float("nan")


def pointing_hit(heat, mask):
    """1 if the hottest pixel lies inside ``mask``, else 0; equally hot ones count as their mean.

    So a uniform map hits as often as a pixel drawn at random. NaN for a map without heat.
    """
    hottest = heat == heat.max()
    return float(mask[hottest].mean()) if heat.max() > 0 else float("nan")


def centred_gaussian(image_size):
    """A map (image_size, image_size) that looks at the middle, whatever is there."""
    distance = (np.arange(image_size) + 0.5) / image_size - 0.5
    line = np.exp(-(distance**2) / (2 * GAUSSIAN_WIDTH**2))
    return np.outer(line, line).astype(np.float32)


def localise(maps, boxes, image_size):
    """Figures of maps against boxes: float64 (n, 2), share in the box and pointing hit.

    ``maps``: (n, h, w) of any size; ``boxes``: (n, 4), NaN gives NaN, as does a map without heat.
    """
    figures = np.full((len(maps), 2), np.nan)
    for index, (heat, box) in enumerate(zip(maps, boxes, strict=True)):
        if np.isnan(box).any():
            continue
        mask = inside(box, image_size)
        if mask.any():
            heat = enlarged(heat, image_size)
            figures[index] = share_in_box(heat, mask), pointing_hit(heat, mask)
    return figures


def localisation_table(maps, boxes, image_size, *, draws, seed):
    """Mean share of heat in the box and pointing-game accuracy of several kinds of maps.

    ``maps``: {name: (n, h, w)} of the same n queries, whose ``boxes`` (n, 4) they are held
    against; a uniform map and a centred Gaussian join them. Columns: map, queries (with a box and with
    heat), maps_without_heat, share_in_box, share_in_box_low, _high, pointing_accuracy,
    pointing_accuracy_low, _high (95 % bootstrap over queries). No rows without boxes.
    """
    known = ~np.isnan(boxes).any(axis=1)
    boxes = boxes[known]
    kinds = {name: kind[known] for name, kind in maps.items()}
    kinds["uniform"] = np.ones((len(boxes), 1, 1), dtype=np.float32)
    gaussian = centred_gaussian(image_size)
    kinds["centred_gaussian"] = np.broadcast_to(gaussian, (len(boxes), *gaussian.shape))
    rows = []
    for name, kind in kinds.items():
        figures = localise(kind, boxes, image_size)
        cold = int(sum(heat.max() <= 0 for heat in kind))
        figures = figures[~np.isnan(figures).any(axis=1)]
        if not len(figures):
            continue
        samples = bootstrap(figures, draws=draws, seed=seed)
        row = {"map": name, "queries": len(figures), "maps_without_heat": cold}
        for column, figure in enumerate(("share_in_box", "pointing_accuracy")):
            row[figure] = figures[:, column].mean()
            row[f"{figure}_low"], row[f"{figure}_high"] = percentile_interval(samples[:, column])
        rows.append(row)
    figures = [f"{f}{end}" for f in ("share_in_box", "pointing_accuracy") for end in ENDS]
    return pd.DataFrame(rows, columns=["map", "queries", "maps_without_heat", *figures])
