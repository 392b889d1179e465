"""How well heat maps find the object in a bounding box. NumPy only, no torch.

There are two measures, each a mean over queries. One is the share of a map's heat inside the box.
The other is the pointing game (Zhang et al., Top-down neural attention by excitation backprop, IJCV
2018; here without a tolerance around the box): whether the hottest pixel is inside the box. Birds
are often in the middle of an image and fill it. Therefore each measure is also given for two
baselines: a uniform map and a centred Gaussian.
"""

import numpy as np
import pandas as pd
from PIL import Image

from dmlstudy.data.dataset import BOX
from dmlstudy.data.resizing import parse_resize
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval

# Standard deviation of the centred Gaussian, as a share of the image's side.
GAUSSIAN_WIDTH = 0.25
# Endings of a measure's columns: its mean and the ends of its interval.
MEASURES = ("share_in_box", "pointing_accuracy")
ENDS = ("", "_low", "_high")
CORNERS = ["box_left", "box_top", "box_right", "box_bottom"]


def boxes_in_crops(manifest, resize, image_size):
    """Bounding boxes in the crops that the model gets: float64 (n, 4).

    The columns are left, top, right, bottom in pixels of the crop. ``manifest``: rows of a
    manifest; ``resize``: name of the test pack's resize ("shorter224"). A box is transformed as the
    test transform does with its image (resize, centre crop) and cut at the edges of the crop. It is
    NaN if the manifest has no boxes or the box lies outside the crop.
    """
    if not set(BOX) <= set(manifest.columns):
        return np.full((len(manifest), 4), np.nan)
    resize_by = parse_resize(resize)
    boxes = np.empty((len(manifest), 4))
    rows = manifest[["width", "height", *BOX]].to_numpy(dtype=np.float64)
    for index, (width, height, x, y, box_width, box_height) in enumerate(rows):
        new_width, new_height = resize_by.size_of(int(width), int(height))
        # Python rounds half to even, and so does the crop.
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


def boxes_without_score(manifest, image_ids, resize, image_size):
    """How many images have a bounding box, and how many of these boxes lie outside the crop.

    Two integers, over ``image_ids``. Outside boxes cannot be scored; other arguments: see
    `boxes_in_crops`.
    """
    if not set(BOX) <= set(manifest.columns):
        return 0, 0
    chosen = manifest.iloc[np.asarray(image_ids)]
    given = chosen[BOX].notna().all(axis=1).to_numpy()
    scored = ~np.isnan(boxes_in_crops(chosen, resize, image_size)).any(axis=1)
    return int(given.sum()), int((given & ~scored).sum())


def inside(box, image_size):
    """Boolean mask (image_size, image_size) of the pixels whose centre is in ``box`` (4,)."""
    centres = np.arange(image_size) + 0.5
    left, top, right, bottom = box
    rows, columns = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
    return rows[:, None] & columns[None, :]


def enlarged(heat, image_size):
    """A heat map (h, w), bilinearly enlarged to the crop: float32 (image_size, image_size)."""
    image = Image.fromarray(np.asarray(heat, dtype=np.float32))
    return np.asarray(image.resize((image_size, image_size), Image.Resampling.BILINEAR))


def share_in_box(heat, mask):
    """Share of the heat (h, w) inside ``mask`` (h, w); NaN for a map without heat."""
    total = heat.sum(dtype=np.float64)
    return float(heat[mask].sum(dtype=np.float64) / total) if total > 0 else float("nan")


def pointing_hit(heat, mask):
    """1 if the hottest pixel is inside ``mask``, else 0; several hottest pixels give their mean.

    So a uniform map scores as a random pixel would on average. NaN for a map without heat.
    """
    hottest = heat == heat.max()
    return float(mask[hottest].mean()) if heat.max() > 0 else float("nan")


def centred_gaussian(image_size):
    """A Gaussian in the middle of the image: float32 (image_size, image_size)."""
    distance = (np.arange(image_size) + 0.5) / image_size - 0.5
    line = np.exp(-(distance**2) / (2 * GAUSSIAN_WIDTH**2))
    return np.outer(line, line).astype(np.float32)


def localise(maps, boxes, image_size):
    """Scores of maps: float64 (n, 2), the share of heat in the box and the pointing hit.

    ``maps``: (n, h, w) of any size; ``boxes``: (n, 4), see `boxes_in_crops`. A score is NaN if
    there is no box or no heat.
    """
    scores = np.full((len(maps), 2), np.nan)
    for index, (heat, box) in enumerate(zip(maps, boxes, strict=True)):
        if np.isnan(box).any():
            continue
        mask = inside(box, image_size)
        if mask.any():
            heat = enlarged(heat, image_size)
            scores[index] = share_in_box(heat, mask), pointing_hit(heat, mask)
    return scores


def localisation_table(maps, boxes, image_size, *, draws, seed):
    """Mean share of heat in the box and pointing-game accuracy of several sets of maps.

    ``maps``: {name: (n, h, w)}, maps of the same n queries; ``boxes``: (n, 4), see
    `boxes_in_crops`. A uniform map and a centred Gaussian are added as baselines. Columns: map (the
    name), queries (those with a box and heat), maps_without_heat, share_in_box, share_in_box_low,
    share_in_box_high, pointing_accuracy, pointing_accuracy_low, pointing_accuracy_high (95 %
    bootstrap over queries). Without boxes the table has no rows.
    """
    known = ~np.isnan(boxes).any(axis=1)
    boxes = boxes[known]
    sets = {name: heats[known] for name, heats in maps.items()}
    sets["uniform"] = np.ones((len(boxes), 1, 1), dtype=np.float32)
    gaussian = centred_gaussian(image_size)
    sets["centred_gaussian"] = np.broadcast_to(gaussian, (len(boxes), *gaussian.shape))
    rows = []
    for name, heats in sets.items():
        scores = localise(heats, boxes, image_size)
        cold = int(sum(heat.max() <= 0 for heat in heats))
        scores = scores[~np.isnan(scores).any(axis=1)]
        if not len(scores):
            continue
        samples = bootstrap(scores, draws=draws, seed=seed)
        row = {"map": name, "queries": len(scores), "maps_without_heat": cold}
        for column, measure in enumerate(MEASURES):
            row[measure] = scores[:, column].mean()
            row[f"{measure}_low"], row[f"{measure}_high"] = percentile_interval(samples[:, column])
        rows.append(row)
    columns = [f"{measure}{end}" for measure in MEASURES for end in ENDS]
    return pd.DataFrame(rows, columns=["map", "queries", "maps_without_heat", *columns])
