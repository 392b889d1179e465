"""Heat maps over the crops that the models see, and how well they find bounding boxes."""

from PIL import Image

from dmlstudy.evaluate.deductions import share
from dmlstudy.explain.heatmap_files import model_crop, overlay
from dmlstudy.explain.localisation import boxes_without_score
from dmlstudy.pages.images import SIDE, data_uri, webp
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``cases``: a query each, with its heat maps; ``localisation``: rows of localisation.csv.

    ``boxes``: number of queries with a bounding box; ``outside``: how many of these boxes lie outside
    the crop, so that they are not scored.
    """
    heatmaps, images = experiment.heatmaps, experiment.images
    size = min(heatmaps.image_size, SIDE)

    def shown(pixels):
        # A model's crop may be larger than a page needs.
        small = Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX)
        return {"uri": data_uri(webp(small)), "width": size, "height": size}

    cases = []
    for image_id, rows in heatmaps.table.groupby("image_id", sort=False):
        crop = model_crop(images.pack, image_id, heatmaps.image_size)
        cases.append(
            {
                "image_id": image_id,
                "name": experiment.class_names[images.manifest["class_id"].iat[image_id]],
                "unseen": rows["unseen"].iat[0] == 1,
                "image": shown(crop),
                "maps": [
                    {
                        "model": model_title(row["class_set"]),
                        "limited": row["class_set"] != experiment.full,
                        "of_true_class": row["which"] == "true_class",
                        "name": row["class_name"],
                        "share_in_box": row["share_in_box"],
                        "image": shown(overlay(crop, heatmaps.maps[row["map"]])),
                    }
                    for row in rows.to_dict("records")
                ],
            }
        )
    boxes, outside = boxes_without_score(
        images.manifest,
        experiment.models[experiment.full]["queries"]["image_id"],
        heatmaps.resize,
        heatmaps.image_size,
    )
    localisation = heatmaps.localisation.to_dict("records")
    return {
        "seed": experiment.seed,
        "layer": heatmaps.layer,
        "cases": cases,
        "localisation": localisation,
        "found": found({row["map"]: row for row in localisation}, experiment.full),
        "boxes": boxes,
        "outside": outside,
    }


# Measure: (what it is, the baseline that it is compared with, what that is).
MEASURES = {
    "share_in_box": ("Share of its heat inside the bounding box", "uniform", "a uniform map"),
    "pointing_accuracy": (
        "Maps whose hottest pixel is inside the box",
        "centred_gaussian",
        "a Gaussian in the middle of the image",
    ),
}


def found(rows, model):
    """Sentences: whether the maps of ``model`` find the box better than a simple map; ``rows``: {map: row}.

    A difference is said only if the two intervals do not overlap.
    """
    if model not in rows:
        return []
    sentences = []
    for measure, (what, simple, name) in MEASURES.items():
        own, other = (
            {
                "value": rows[one][measure],
                "low": rows[one][f"{measure}_low"],
                "high": rows[one][f"{measure}_high"],
            }
            for one in (model, simple)
        )
        if own["low"] > other["high"]:
            finding = f"More than {name}"
        elif own["high"] < other["low"]:
            finding = f"Less than {name}"
        else:
            finding = f"No difference to {name} is shown"
        sentences.append(f"{what}: {share(own)}. {finding} ({share(other)}).")
    return sentences
