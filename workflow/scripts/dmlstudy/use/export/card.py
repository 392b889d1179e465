"""The model card of an export. Every figure is read from the study's tables or from the check."""

from importlib.metadata import version
from pathlib import Path

from dmlstudy.use.export.place import ONNX, PROGRAM, WEIGHTS

# Figures of the card: metric of summary.csv → what it says. A limited model has those of the second table.
ALL_CLASSES = {
    "precision_at_1": "precision@1: the nearest gallery image has the query's class",
    "macro_precision_at_1": "the same, mean over classes",
    "softmax_accuracy": "accuracy of the softmax over the output `logits`",
    "majority_vote_5": "the vote of the 5 nearest gallery images is right",
    "majority_vote_10": "the vote of the 10 nearest gallery images is right",
    "recall_at_2": "an image of the class is among the 2 nearest",
    "recall_at_4": "an image of the class is among the 4 nearest",
    "recall_at_8": "an image of the class is among the 8 nearest",
    "r_precision": "R-precision",
    "map_at_r": "MAP@R",
}
LIMITED = {
    "limited_precision_at_1": "precision@1 of all queries, all classes being in the gallery",
    "limited_precision_at_1_seen_classes": "of queries of the classes that it was trained on",
    "limited_precision_at_1_unseen_classes": "of queries of the unseen classes, which are only enrolled",
    "limited_harmonic_mean": "harmonic mean of the two",
    "precision_drop_unseen_classes": "precision@1 of the model trained on all classes minus this one's, unseen classes",
    "limited_r_precision": "R-precision",
    "limited_map_at_r": "MAP@R",
    "limited_rejection_auroc": "AUROC of the similarity for telling unseen classes, before they are enrolled",
}
# Markdown and HTML of a name would be read as such.
SPECIAL = "\\`*_[]<>#|~&"


def escaped(text):
    """A text on one line of Markdown that shows as it is."""
    text = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in SPECIAL else letter for letter in text)


def percent(value):
    """A share as percent with two decimals; an empty cell for what is not known."""
    return "" if value is None or value != value else f"{100 * value:.2f} %"


def model_card(source, stored, licence, files, check, thresholds):
    """The text of model_card.md.

    ``source``: `Source`; ``stored``: contents of model.pt; ``licence``: (name or None, sentence); ``files``:
    [(name, what it holds)]; ``check``, ``thresholds``: contents of check.json and thresholds.json.
    """
    title = f"{source.experiment}, {source.class_set}, seed {source.seed}"
    parts = [
        _front(source, licence),
        f"# {escaped(title)}",
        "An embedding model: photographs of one class lie close together. A photograph is named by its nearest "
        "images in a gallery; classes are added by adding their images, without training.",
        "## Files\n\n" + _table(("file", "holds"), [(f"`{name}`", text) for name, text in files]),
        "## Data\n\n" + _data(source),
        "## Protocol\n\n" + _protocol(source, stored),
        "## Figures\n\n" + _figures(source),
        '## "Unknown"\n\n' + _unknown(thresholds),
        "## Check of this export\n\n" + _check(check),
        "## Limits\n\n" + _limits(source),
        "## Licence\n\n" + licence[1],
        "## How to use it\n\n" + _usage(),
    ]
    return "\n\n".join(parts) + "\n"


def _front(source, licence):
    """The head that model hubs read."""
    lines = ["---", "pipeline_tag: image-feature-extraction", "tags: [deep-metric-learning, onnx]"]
    return "\n".join([*lines, f"license: {licence[0] or 'other'}", "---"])


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _data(source):
    seen, names = source.dataset.seen, source.dataset.class_names
    lines = [
        f"- Data set: {escaped(source.summary['data'])}.",
        f"- {len(names)} classes, {source.summary['gallery']} training images (the gallery), "
        f"{source.summary['queries']} test images (the queries).",
        f"- The model was trained on {int(seen.sum())} of the classes.",
    ]
    unseen = [escaped(name) for name, known in zip(names, seen, strict=True) if not known]
    if unseen:
        lines.append(f"- Unseen: it never saw an image of {', '.join(unseen)}.")
    return "\n".join([*lines, "- `classes.json` has all names."])


def _protocol(source, stored):
    recipe, start = stored["recipe"], source.description["recipe"].get("initializer")
    rows = [
        ("experiment", escaped(source.description["details"])),
        ("backbone", escaped(recipe["backbone"])),
        ("starting weights", escaped(start)),
        ("head", _piece(recipe["head"])),
        ("loss", _piece(recipe["loss"])),
        ("trained", trained(stored)),
        ("optimizer", _piece(recipe["optimizer"])),
        ("epochs", recipe["epochs"]),
        ("batch size", recipe["batch_size"]),
        ("image size", recipe["image_size"]),
        ("seed", source.seed),
        ("dimensions of the embedding", source.summary["embedding_dim"]),
    ]
    return (
        _table(("what", "value"), rows)
        + "\n\nWeights are those after the last epoch; test images chose nothing."
    )


def _piece(values):
    more = ", ".join(f"{key} {value}" for key, value in values.items() if key != "kind")
    return escaped(f"{values['kind']} ({more})" if more else values["kind"])


def trained(stored):
    """Which parts the training changed. ``stored``: contents of model.pt."""
    # A recipe leaves out what has its default.
    recipe = {"backbone_trains": True, "trained_parts": {"kind": "all"}} | stored["recipe"]
    if not recipe["epochs"]:
        return "nothing"
    parts = [] if recipe["head"]["kind"] == "none" else ["head"]
    # Some losses have weights of their own.
    parts += ["loss"] if stored["loss"] else []
    if not recipe["backbone_trains"]:
        return f"{', '.join(parts)}; the backbone was frozen: its weights are the starting weights"
    some = recipe["trained_parts"]
    backbone = "backbone" if some["kind"] == "all" else f"part of the backbone: {_piece(some)}"
    return ", ".join([*parts, backbone])


def _figures(source):
    chosen = ALL_CLASSES if source.dataset.seen.all() else LIMITED
    rows = [
        (
            f"`{name}`",
            text,
            percent(row["value"]),
            f"{percent(row['low'])} to {percent(row['high'])}" if row["low"] == row["low"] else "",
            f"{row['queries']:g}",
            f"{row['classes']:g}",
        )
        for name, text in chosen.items()
        if name in source.metrics.index
        for row in [source.metrics.loc[name]]
    ]
    head = ("metric", "says", "value", "95 % interval", "queries", "classes")
    first = source.metrics.iloc[0]
    seeds, draws = int(first["seeds"]), int(first["unseen_draws"])
    scope = "They are of this model and its counterpart of the same seed."
    if seeds > 1 or draws > 1:
        scope = (
            f"They are means over {seeds} seed(s) and {draws} draw(s) of unseen classes, of which this model "
            "is one."
        )
    own = source.summary["precision_at_1"]
    return (
        f"From `summary.csv` of the experiment. {scope}\n\n{_table(head, rows)}\n\n"
        f"Precision@1 of this very model on all {source.summary['queries']} queries, from its `summary.json`: "
        f"{percent(own)}."
    )


def _unknown(thresholds):
    chosen, rows = thresholds["chosen"], thresholds["measured"]
    if chosen:
        text = (
            f"The threshold is {chosen['similarity']:.6f}, a {thresholds['score_is']}. It was chosen to accept "
            f"{percent(chosen['accepted_share'])} of new photographs of enrolled classes, on "
            f"{chosen['images']} images."
        )
    else:
        text = "No threshold is chosen: `thresholds.json` says why."
    if not rows:
        return text
    head = (
        "unseen classes of", "chosen on", "wanted", "threshold", "accepted: seen classes",
        "unseen, enrolled", "unseen, not enrolled",
    )  # fmt: skip
    keys = ("accepted_seen_classes", "accepted_unseen_classes", "accepted_unknown_classes")
    lines = [
        (
            escaped(row["class_set"]),
            escaped(row["way"]),
            percent(row["accepted_share"]),
            f"{row['threshold']:.6f}",
            *(percent(row[key]) for key in keys),
        )
        for row in rows
    ]
    return (
        f"{text}\n\nWhat thresholds did on the test queries (`rejection_thresholds.csv`): shares accepted.\n\n"
        + _table(head, lines)
    )


def _check(check):
    rows = [
        (f"`{name}`", f"`{output}`", f"{value:.3g}")
        for name, outputs in check["differences"].items()
        for output, value in outputs.items()
    ]
    stored = check["stored_embeddings"]
    return (
        f"Largest absolute difference to torch (float32, CPU) on {check['queries']} test queries; the limit is "
        f"{check['limit']:g}. `{WEIGHTS}` equals the run's weights to the bit.\n\n"
        + _table(("file", "output", "difference"), rows)
        + f"\n\nAgainst the embeddings of the study (computed with precision {stored['precision']}): largest "
        f"difference {stored['difference']:.3g}; {stored['same_nearest']} of {check['queries']} queries keep "
        "their nearest gallery image."
    )


def _limits(source):
    lines = [
        "It knows what its data set shows: photographs of another kind, camera or region can be named wrongly, "
        "with a high similarity.",
        "A threshold does not keep out most photographs of classes that are not in the gallery: the table above "
        "has the rates.",
        "Intervals come from the test images of one split; with one seed they say nothing of another training.",
    ]
    if not source.dataset.seen.all():
        lines.append("Unseen classes are named by their gallery images alone.")
    return "\n".join(f"- {line}" for line in lines)


def _usage():
    code = (Path(__file__).with_name("example.py")).read_text(encoding="utf-8")
    return (
        f"With `{ONNX}`; this is `example.py` of this folder. The input is described by `preprocessing.json`. "
        f'`{PROGRAM}` gives the same with torch alone: `torch.export.load("{PROGRAM}").module()`.\n\n'
        f"```\npip install numpy=={version('numpy')} pillow=={version('pillow')} "
        f"onnxruntime=={version('onnxruntime')}\n```\n\n```python\n{code}```"
    )
