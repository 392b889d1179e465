"""Queries of unseen classes, with the nearest training images that the limited model found."""

import numpy as np

from dmlstudy.pages.rendering import model_title
from dmlstudy.pages.sections.trios import trio

# Unseen classes that are shown.
CLASSES = 20


def values(experiment):
    """``cases``: for each unseen class, worst first, one wrong and one right answer.

    The wrong answer is the one with the highest similarity, the right answer the one with the
    lowest: the hard cases of both.
    """
    tables, names = experiment.models[experiment.limited], experiment.class_names
    images = experiment.images
    queries = tables["queries"]
    neighbours = dict(list(tables["neighbours"].groupby("image_id")))
    votes = [
        (int(column.split("_")[1]), column) for column in queries if column.startswith("vote_")
    ]
    accuracy = tables["metrics"]["precision_at_1"].to_numpy()
    unseen = np.flatnonzero(~experiment.seen[experiment.limited])
    order = sorted(unseen, key=lambda one: (np.nan_to_num(accuracy[one]), one))
    cases = []
    for class_id in order[:CLASSES]:
        own = queries[queries["class_id"] == class_id].sort_values(["similarity", "image_id"])
        wrong, right = own[own["correct"] == 0], own[own["correct"] == 1]
        for row in [*wrong.tail(1).to_dict("records"), *right.head(1).to_dict("records")]:
            near = neighbours[row["image_id"]].to_dict("records")
            for one in near:
                one["name"] = names[one["nearest_class_id"]]
                one["right"] = one["nearest_class_id"] == class_id
            right = next((one for one in near if one["right"]), None)
            cases.append(
                {
                    "name": names[class_id],
                    "answer": names[row["nearest_class_id"]],
                    "right": row["correct"] == 1,
                    "trio": trio(images, row, right),
                    "rank": right and right["rank"],
                    "near": near,
                    "votes": [
                        {"n": n, "name": names[row[key]], "right": row[key] == class_id}
                        for n, key in votes
                    ],
                }
            )
    return {
        "cases": cases,
        "classes": min(len(order), CLASSES),
        "unseen": len(order),
        "seed": experiment.seed,
        "limited": model_title(experiment.limited),
        "columns": images.columns,
    }
