"""Makes the heat maps of an experiment's models, and scores them against bounding boxes."""

import numpy as np
import pandas as pd
import torch

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.devices import prepare
from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.explain.heatmaps import choose_layer, class_proxies, heat_maps
from dmlstudy.explain.localisation import CORNERS, boxes_in_crops, localisation_table, localise
from dmlstudy.train.building import build_model

# Gallery images per class from which the untrained network's class proxies are made. Its embeddings
# are not stored, so they are computed here.
UNTRAINED_IMAGES = 5


def choose_queries(answers, unseen, count, seed):
    """Image ids of at most ``count`` queries to show, drawn with ``seed``.

    The queries are taken in turn from four groups: queries of an unseen class that any model
    answers wrongly; other wrong answers; other queries of unseen classes; all others. An empty
    group is skipped. ``answers``: the queries.csv of each model, all in the same order (columns
    image_id, class_id, correct); ``unseen``: ids of the classes that a model has not seen.
    """
    first = answers[0]
    wrong = np.any([table["correct"].to_numpy() == 0 for table in answers], axis=0)
    left_out = np.isin(first["class_id"], list(unseen))
    order = np.random.default_rng(seed).permutation(len(first))
    groups = [
        [row for row in order if (wrong[row], left_out[row]) == group]
        for group in ((True, True), (True, False), (False, True), (False, False))
    ]
    turns = sorted(
        (position, group, row)
        for group, rows in enumerate(groups)
        for position, row in enumerate(rows)
    )
    return first["image_id"].to_numpy()[[row for _, _, row in turns[:count]]]


class Run:
    """One model of the experiment, with what its heat maps need.

    ``model``: from `load_model`; ``recipe``: its `Recipe`; ``proxies``: {class id: proxy} of all
    classes; ``answers``: its queries.csv, indexed by image id; ``unseen``: ids of the classes that
    it has not seen.
    """

    def __init__(self, class_set, model, recipe, embeddings, answers, dataset):
        self.class_set, self.recipe = class_set, recipe
        self.model = model.to(memory_format=torch.channels_last)
        self.proxies = class_proxies(
            embeddings["gallery_embeddings"], dataset.class_ids[embeddings["gallery_image_ids"]]
        )
        self.answers = answers.set_index("image_id", drop=False)
        self.unseen = np.flatnonzero(~dataset.seen)


def _maps(model, images, rows, proxies):
    """(heat maps of pack rows, one per proxy; name of the layer)."""
    layer = choose_layer(model, images.size)
    pixels = images.normalise(images.centre(torch.as_tensor(np.asarray(rows, dtype=np.int64))))
    return heat_maps(model, layer, pixels, proxies), layer.name


def untrained_maps(recipe, images, rows, dataset):
    """Heat maps of rows for their own classes, from an untrained network of the same recipe.

    Its class proxies are means of its own embeddings of up to `UNTRAINED_IMAGES` gallery images per
    class.
    """
    model, _ = build_model(recipe, 2, recipe.seed)
    model = model.eval().to(memory_format=torch.channels_last)
    gallery, classes = dataset.images("train"), dataset.class_ids
    chosen = np.concatenate(
        [gallery[classes[gallery] == c][:UNTRAINED_IMAGES] for c in np.unique(classes[rows])]
    )
    embeddings = normalised(embed(model, images, chosen, "float32"))
    proxies = class_proxies(embeddings, classes[chosen])
    return _maps(model, images, rows, np.stack([proxies[c] for c in classes[rows]]))[0]


def explain(
    runs, dataset, manifest, pack, resize, *, queries, evaluated, seed, draws, progress=None
):
    """Make heat maps to show, and score heat maps: (table, maps, layer, localisation).

    ``runs``: `Run`s, the all-classes model first; ``pack``: the test pack, made with ``resize``;
    ``queries``: how many queries to show (see `choose_queries`); ``evaluated``: how many queries
    with a bounding box are used to score the maps of their true classes, drawn with ``seed``;
    ``draws``: number of resamples.

    ``table`` has a row per query, model and class (the true class and, if the answer is wrong, the
    class that won). Columns: map (row of ``maps``), image_id, class_set, which (true_class or
    winning_class), class_id, class_name, unseen (1: the model has not seen the query's class),
    correct (1: the model's answer is right), share_in_box, pointing_hit, box_left, box_top,
    box_right, box_bottom (pixels of the crop). The last six are empty without a box. ``maps``:
    uint8 (n, h, w); 255 is the hottest place of a map, 0 is no heat. ``layer``: name of the
    backbone layer. ``localisation``: see `localisation_table`.
    """
    recipe = runs[0].recipe
    prepare(torch.device("cpu"), recipe.compute_threads)
    size = recipe.image_size
    wanted = runs[0].model.preprocessing
    images = ImageBatches(pack, size, torch.device("cpu"), mean=wanted.mean, std=wanted.std)
    boxes = boxes_in_crops(manifest, resize, size)
    unseen = np.unique(np.concatenate([run.unseen for run in runs]))
    shown = choose_queries([run.answers for run in runs], unseen, queries, seed)
    with_box = dataset.images("test")
    with_box = with_box[~np.isnan(boxes[with_box]).any(axis=1)]
    drawn = np.random.default_rng([seed, 1]).permutation(len(with_box))[:evaluated]
    judged = np.sort(with_box[drawn])

    rows, maps, scored, layer = [], [], {}, ""
    for run in runs:
        asked = []
        for query in shown:
            answer = run.answers.loc[query]
            asked.append((query, "true_class", int(answer["class_id"]), int(answer["correct"])))
            if not answer["correct"]:
                asked.append((query, "winning_class", int(answer["nearest_class_id"]), 0))
        # All maps of a model at once. Those that are only scored come last.
        ids = np.concatenate([[query for query, *_ in asked], judged]).astype(np.int64)
        classes = [class_id for _, _, class_id, _ in asked] + dataset.class_ids[judged].tolist()
        found, layer = _maps(run.model, images, ids, np.stack([run.proxies[c] for c in classes]))
        scored[run.class_set] = found[len(asked) :]
        maps.append(found[: len(asked)])
        shown_boxes = boxes[ids[: len(asked)]]
        scores = localise(maps[-1], shown_boxes, size)
        for (query, which, class_id, correct), (share, hit), box in zip(
            asked, scores, shown_boxes, strict=True
        ):
            rows.append(
                {
                    "map": len(rows),
                    "image_id": int(query),
                    "class_set": run.class_set,
                    "which": which,
                    "class_id": class_id,
                    "class_name": dataset.class_names[class_id],
                    "unseen": int(dataset.class_ids[query] in run.unseen),
                    "correct": correct,
                    "share_in_box": share,
                    "pointing_hit": hit,
                    **dict(zip(CORNERS, box, strict=True)),
                }
            )
        if progress:
            progress(1, run.class_set)
    if len(judged):
        scored["untrained"] = untrained_maps(recipe, images, judged, dataset)
    if progress:
        progress(1, "untrained network")
    table = pd.DataFrame(rows)
    localisation = localisation_table(scored, boxes[judged], size, draws=draws, seed=seed)
    return table, as_bytes(np.concatenate(maps)), layer, localisation


def as_bytes(maps):
    """Maps (n, h, w) as uint8. Each is scaled by its maximum; a map without heat stays 0."""
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.round(255 * maps / np.where(highest > 0, highest, 1)).astype(np.uint8)
