"""What an experiment's page shows, in the order in which it is read. Figures come from its tables."""

import base64
import re
from collections import Counter

import numpy as np
from PIL import Image

from dmlstudy.evaluate.metrics import distance
from dmlstudy.explain.heatmap_files import overlay, seen_crop
from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.rendering import model_title, render
from dmlstudy.pages.thumbnails import photograph, sprite_columns, webp

# What is shown with photographs: pairs of confused classes, examples of each, unseen classes (with
# one right and one wrong answer), neighbours in full size, pixels of their longer side.
PAIRS, EXAMPLES, CLASSES, NEIGHBOURS, PHOTO = 10, 3, 20, 5, 128

# Figures that the page begins with, and what they are called there.
KEY_FIGURES = {
    "precision_at_1": "precision@1, all classes",
    "softmax_accuracy": "softmax accuracy",
    "limited_precision_at_1_unseen_classes": "limited model, unseen classes",
    "limited_precision_at_1_seen_classes": "limited model, seen classes",
    "limited_harmonic_mean": "limited model, harmonic mean",
    "precision_drop_unseen_classes": "drop, unseen classes",
}


def genera(class_names):
    """The genus of each class as its name tells it, else the class's own name.

    Names such as ``001.Black_footed_Albatross`` end with the genus; of two words the second of which
    is not capitalised, as in Linnaeus's names, the first is. A genus has at least two classes.
    """
    plain = [re.sub(r"^\d+\.", "", name) for name in class_names]
    found = []
    for name in plain:
        words = re.split(r"[_\s]+", name.strip("_ "))
        binomial = len(words) == 2 and words[1][:1].islower()
        found.append(words[0] if binomial else words[-1])
    counts = Counter(found)
    return [genus if counts[genus] > 1 else name for genus, name in zip(found, plain, strict=True)]


class Photographs:
    """Pictures of one data set for a page.

    ``pack``: an opened `pack.Pack`; ``manifest``: its table of images; ``sprite``: bytes of the
    picture that `thumbnails.write_sprite` wrote for it.
    """

    def __init__(self, pack, manifest, sprite):
        self.pack, self.manifest = pack, manifest
        self.sprite = _data_uri(sprite)
        self.columns = sprite_columns(len(manifest))
        self.known = {}

    def photo(self, image_id):
        """{"uri", "width", "height"} of one image, its longer side `PHOTO` pixels at most."""
        if image_id not in self.known:
            width, height = (self.manifest[key].iat[image_id] for key in ("width", "height"))
            picture = photograph(self.pack, image_id, width, height, PHOTO)
            self.known[image_id] = {
                "uri": _data_uri(webp(picture)),
                "width": picture.width,
                "height": picture.height,
            }
        return self.known[image_id]


def _data_uri(content):
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def experiment_page(name, recipe, figures, runs, class_sets, heatmaps, photographs, note, links):
    """One experiment's page as HTML.

    ``recipe``: its description, a mapping. ``figures``: its figures.csv. ``runs``: per seed
    ``{"seed", "models": {class set: tables by name}}``, the full class set first; tables are summary,
    curves, metrics, queries, confusions, classification_report, of the first seed's first two class
    sets map, and of limited ones also scalars, comparison, neighbours, enrolment, rejection and
    rejection_curve. ``class_sets``: the table of class sets. ``heatmaps``: `heatmap_files.Heatmaps` of the first
    seed. ``photographs``: `Photographs`.
    ``note``: what is said of the data on top. ``links``: {"index": (from the page's folder, inside a
    Snakemake report)}.
    """
    by_figure = figures.set_index("figure")
    first = runs[0]
    full, limited, *_ = first["models"]
    names = photographs.manifest.drop_duplicates("class_id").sort_values("class_id")
    names = names["class_name"].tolist()
    seen = {
        class_set: group.sort_values("class_id")["seen"].to_numpy(dtype=bool)
        for class_set, group in class_sets.groupby("class_set", sort=False)
    }
    summary = first["models"][full]["summary"]
    return render(
        "report.html.j2",
        title=name,
        note=note,
        links=links,
        details=recipe["details"],
        recipe=_flat(recipe["recipe"]),
        protocol={
            "queries": summary["queries"],
            "gallery": summary["gallery"],
            "classes": summary["classes"],
            "unseen": int((~seen[limited]).sum()),
            "seeds": [run["seed"] for run in runs],
            "draws": len(first["models"]) - 1,
        },
        tiles=[
            {"title": title, **by_figure.loc[figure]}
            for figure, title in KEY_FIGURES.items()
            if figure in by_figure.index
        ],
        curves=_curves(runs),
        figures=figures.to_dict("records"),
        classes=_classes(runs, seen, photographs, full),
        confusions=[
            _confusions(first["models"][model], first["seed"], model, photographs)
            for model in (full, limited)
        ],
        evidence=_evidence(first["models"][limited], names, ~seen[limited], photographs),
        shown={"seed": first["seed"], "limited": model_title(limited)},
        enrolment=[
            _enrolment(tables["enrolment"], class_set, first["seed"], full)
            for class_set, tables in first["models"].items()
            if class_set != full
        ],
        rejection=[
            _rejection(tables, class_set, first["seed"])
            for class_set, tables in first["models"].items()
            if class_set != full
        ],
        scalars=[
            (run["seed"], model_title(class_set), key.replace("_", " "), value)
            for run in runs
            for class_set, tables in run["models"].items()
            for key, value in {**tables["summary"], **tables.get("scalars", {})}.items()
        ],
        reports=[
            {
                "seed": run["seed"],
                "title": model_title(class_set),
                "rows": tables["classification_report"].to_dict("records"),
            }
            for run in runs
            for class_set, tables in run["models"].items()
        ],
        heatmaps=_heatmaps(heatmaps, names, photographs),
        sprite=photographs.sprite,
        columns=photographs.columns,
        map_models=[model_title(model) for model in (full, limited)],
        map=_map(first["models"], (full, limited), names, seen[limited], photographs),
    )


def _flat(value, prefix=""):
    """A nested mapping as (dotted key, value) pairs."""
    pairs = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        pairs += _flat(item, f"{name}.") if isinstance(item, dict) else [(name, item)]
    return pairs


def _curves(runs):
    accuracies, losses = [], []
    for run in runs:
        for index, (class_set, tables) in enumerate(run["models"].items()):
            label = model_title(class_set)
            if len(runs) > 1:
                label += f", seed {run['seed']}"
            curve = tables["curves"]
            index = index + len(run["models"]) * runs.index(run)
            epochs = curve["epoch"].tolist()
            accuracies.append(line(label, epochs, curve["test_accuracy"].tolist(), index=index))
            losses.append(line(label, epochs, curve["train_loss"].tolist(), index=index))
    return [
        chart(
            "accuracy",
            "Test accuracy while training (classes that the model knows)",
            "Line chart: precision at 1 on the test images of known classes, by epoch, for each "
            "model. Last points are in the table of runs.",
            accuracies,
            x_title="epoch",
            y_title="precision@1",
            percent_y=True,
        ),
        chart(
            "loss",
            "Training loss",
            "Line chart: mean training loss by epoch, for each model.",
            losses,
            x_title="epoch",
            y_title="loss",
        ),
    ]


def _classes(runs, seen, photographs, full):
    """A table of classes for each limited model, worst first."""
    first_images = photographs.manifest.groupby("class_id")["image_id"].min()
    sections = []
    for run in runs:
        for class_set, tables in run["models"].items():
            if class_set == full:
                continue
            table = tables["comparison"].assign(
                image_id=first_images.to_numpy(),
                seen=["seen" if value else "unseen" for value in seen[class_set]],
                test_samples=tables["metrics"]["test_samples"],
                train_samples=tables["metrics"]["train_samples"],
            )
            table["drop"] = (
                table["all_classes_precision_at_1"] - table["limited_classes_precision_at_1"]
            )
            table = table.sort_values("all_classes_precision_at_1", kind="stable")
            sections.append(
                {
                    "seed": run["seed"],
                    "title": model_title(class_set),
                    "rows": table.to_dict("records"),
                }
            )
    return sections


def _confusions(tables, seed, model, photographs):
    """Pairs of classes that a model takes for each other; the most costly with photographs."""
    queries, pairs = tables["queries"], tables["confusions"].to_dict("records")
    wrong = queries[queries["correct"] == 0].sort_values(
        ["similarity", "image_id"], ascending=[False, True]
    )
    by_pair = dict(list(wrong.groupby(["class_id", "nearest_class_id"])))
    shown = []
    for pair in pairs[:PAIRS]:
        examples = by_pair[pair["class_id"], pair["nearest_class_id"]].head(EXAMPLES)
        shown.append(
            {
                **pair,
                "examples": [
                    {
                        "query": photographs.photo(row.image_id),
                        "nearest": photographs.photo(row.nearest_image_id),
                        "distance": float(distance(row.similarity)),
                    }
                    for row in examples.itertuples()
                ],
            }
        )
    return {"seed": seed, "title": model_title(model), "rows": pairs, "shown": shown}


def _evidence(tables, names, unseen, photographs):
    """Of each unseen class, worst first: a wrong and a right answer with what the query lies near.

    The wrong one is that with the highest similarity, the right one that with the lowest: the hard
    cases of both.
    """
    queries = tables["queries"]
    neighbours = dict(list(tables["neighbours"].groupby("image_id")))
    votes = [
        (int(column.split("_")[1]), column) for column in queries if column.startswith("vote_")
    ]
    accuracy = tables["metrics"]["precision_at_1"].to_numpy()
    order = sorted(np.flatnonzero(unseen), key=lambda one: (np.nan_to_num(accuracy[one]), one))
    cases = []
    for class_id in order[:CLASSES]:
        own = queries[queries["class_id"] == class_id].sort_values(["similarity", "image_id"])
        wrong, right = own[own["correct"] == 0], own[own["correct"] == 1]
        for row in [*wrong.tail(1).to_dict("records"), *right.head(1).to_dict("records")]:
            near = neighbours[row["image_id"]].to_dict("records")
            for one in near:
                one["name"] = names[one["nearest_class_id"]]
                one["right"] = one["nearest_class_id"] == class_id
            cases.append(
                {
                    "name": names[class_id],
                    "answer": names[row["nearest_class_id"]],
                    "right": row["correct"] == 1,
                    "photo": photographs.photo(row["image_id"]),
                    "near": [
                        {**one, "photo": photographs.photo(one["nearest_image_id"])}
                        for one in near[:NEIGHBOURS]
                    ],
                    "further": near[NEIGHBOURS:],
                    "votes": [
                        {"n": n, "name": names[row[key]], "right": row[key] == class_id}
                        for n, key in votes
                    ],
                }
            )
    return {"cases": cases, "classes": min(len(order), CLASSES), "unseen": len(order)}


def _heatmaps(heatmaps, names, photographs):
    """Each query's crop with the maps that lie over it, model by model."""
    size = min(heatmaps.image_size, PHOTO)

    def shown(picture):
        # A model's crop may be larger than a page needs.
        small = Image.fromarray(picture).resize((size, size), Image.Resampling.BOX)
        return {"uri": _data_uri(webp(small)), "width": size, "height": size}

    cases = []
    for image_id, rows in heatmaps.table.groupby("image_id", sort=False):
        crop = seen_crop(photographs.pack, image_id, heatmaps.image_size)
        cases.append(
            {
                "name": names[photographs.manifest["class_id"].iat[image_id]],
                "unseen": rows["unseen"].iat[0] == 1,
                "photo": shown(crop),
                "maps": [
                    {
                        "model": model_title(row["class_set"]),
                        "of_true_class": row["which"] == "true_class",
                        "name": row["class_name"],
                        "share_in_box": row["share_in_box"],
                        "photo": shown(overlay(crop, heatmaps.maps[row["map"]])),
                    }
                    for row in rows.to_dict("records")
                ],
            }
        )
    return {
        "layer": heatmaps.layer,
        "cases": cases,
        "figures": heatmaps.figures.to_dict("records"),
    }


def _enrolment(table, class_set, seed, full):
    """Accuracy by number of enrolled photographs, of unseen and of seen classes."""
    traces = []
    sizes = list(dict.fromkeys(table["images_per_class"].astype(str)))
    for index, (method, rows) in enumerate(
        table[table["model"] != full].groupby("method", sort=False)
    ):
        xs = rows["images_per_class"].astype(str).tolist()
        nearest = method == "nearest_neighbour"
        ends = {key: rows[key].tolist() for key in ("low", "high")} if nearest else {}
        title = method.replace("_", " ")
        traces.append(line(f"unseen classes, {title}", xs, rows["unseen_accuracy"].tolist(), index=index, **ends))  # fmt: skip
        if nearest:
            traces.append(line(f"seen classes, {title}", xs, rows["seen_accuracy"].tolist(), index=index, dashed=True))  # fmt: skip
    oracle = table[(table["model"] == full) & (table["method"] == "nearest_neighbour")]
    xs = oracle["images_per_class"].astype(str).tolist()
    traces.append(line("unseen classes, model of all classes", xs, oracle["unseen_accuracy"].tolist(), index=7, dashed=True))  # fmt: skip
    drawn = chart(
        f"enrolment-{class_set}",
        f"Accuracy by enrolled photographs of each unseen class ({model_title(class_set)}, seed {seed})",
        "Line chart: accuracy on unseen classes, on seen classes, and of the model that was trained "
        "on all classes, by number of enrolled photographs. The table below holds its figures.",
        traces,
        x_title="photographs of each unseen class in the gallery",
        y_title="accuracy",
        percent_y=True,
        x={"type": "category", "categoryorder": "array", "categoryarray": sizes},
    )
    return {"chart": drawn, "id": class_set, "rows": table.to_dict("records"), "full": full}


def _rejection(tables, class_set, seed):
    """How well similarity tells queries of unseen classes before any is enrolled."""
    curve = tables["rejection_curve"]
    traces = [
        line(
            model_title(model),
            rows["false_positive_rate"].tolist(),
            rows["true_positive_rate"].tolist(),
            index=index,
            shape="hv",
            mode="lines",
            customdata=rows["threshold"].tolist(),
            hovertemplate="threshold %{customdata:.3f}<br>%{y:.1%} of known accepted<br>%{x:.1%} of unseen accepted",
        )
        for index, (model, rows) in enumerate(curve.groupby("model", sort=False))
    ]
    traces.append(line("chance", [0, 1], [0, 1], index=7, dashed=True, mode="lines"))
    drawn = chart(
        f"rejection-{class_set}",
        f"Queries accepted by a threshold on similarity ({model_title(class_set)}, seed {seed})",
        "Receiver operating characteristic: share of known queries that are accepted, by share of "
        "queries of unseen classes that are accepted. The table beside it holds the area.",
        traces,
        x_title="queries of unseen classes accepted",
        y_title="known queries accepted",
        percent_x=True,
        percent_y=True,
    )
    return {"chart": drawn, "id": class_set, "rows": tables["rejection"].to_dict("records")}


def _map(models, shown, names, seen, photographs):
    """Points of the embedding maps for the page's script: images by id, classes by number."""
    parts = []
    for model in shown:
        table, queries = models[model]["map"], models[model]["queries"]
        answers = queries.set_index("image_id")["nearest_class_id"]
        asked = table.loc[table["part"] == "query", "image_id"]
        parts.append(
            {
                "ids": table["image_id"].tolist(),
                "x": table["x"].round(3).tolist(),
                "y": table["y"].round(3).tolist(),
                "queries": len(asked),
                "answers": answers[asked].tolist(),
            }
        )
    return {
        "models": parts,
        "names": names,
        "genera": genera(names),
        "seen": seen.astype(int).tolist(),
        "classes": photographs.manifest["class_id"].tolist(),
        "columns": photographs.columns,
    }
