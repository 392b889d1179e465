"""Writes docs/results.md, its pictures and the README's block from the kept studies."""

import re

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.deductions import hundredths, shown
from dmlstudy.pages.results import limits, sentences
from dmlstudy.pages.results.kept import TUNING
from dmlstudy.pages.results.phrases import code, images, number_of, with_interval
from dmlstudy.pages.results.pictures import few, pictures
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED
from dmlstudy.pages.results.verdict import answered
from dmlstudy.pages.results.words import in_words, value_in_words

BEGIN = "<!-- results: begin; `make results` writes this block -->"
END = "<!-- results: end -->"
NO_STUDY = "There is no result on real photographs yet: no finished study is kept."
HEADER = """# Results

This page answers the questions of the study with the figures of finished studies. `make results` writes it
from the tables in `docs/results/`; do not edit it by hand.
"""
RULE = """Studies stand in this order: real photographs before drawn images, the published data set before
others, networks that were trained before heads on frozen networks, more epochs before fewer, larger images
before smaller, more seeds before fewer. The README shows the first one, and the first one with heads only.
"""
READING = """Square brackets hold 95 % intervals. For accuracy, queries are resampled; for drops and unseen
classes, classes and then their queries. Differences are paired by query. If the interval of a difference
contains 0, no difference is shown. [Tables](tables.md) explains every column.
"""
EMPTY = "—"


def documents(studies):
    """{path below docs/: text} of the page and of all pictures."""
    found = {"results.md": page(studies)}
    for study in studies:
        for name, svg in pictures(study).items():
            found[f"results/{study.name}/{name}"] = svg
    return found


def page(studies):
    """The text of results.md."""
    if not studies:
        return f"{HEADER}\n{NO_STUDY}\n"
    parts = [HEADER, READING]
    if len(studies) > 1:
        parts += [RULE, overview(studies)]
    parts += [section(study) for study in studies]
    return "\n".join(parts)


def overview(studies):
    """A table with a row per study."""
    head = (
        "study",
        "data",
        "trained",
        "seeds",
        "epochs",
        "pixels",
        "experiment",
        "precision@1",
        "drop",
    )
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for study in studies:
        name = study.leading
        recipe = study.entry(name)["recipe"]
        cells = [
            code(study.name),
            f"{study.about['dataset']['name']}, {images(study)}",
            "heads" if study.heads_only else "networks",
            str(len(study.seeds)),
            str(recipe["epochs"]),
            str(recipe["image_size"]),
            code(name),
            with_interval(study.metric(name, "precision_at_1")),
            with_interval(study.metric(name, "precision_drop_unseen_classes")).replace(" %", ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def readme_block(studies):
    """What stands between the README's markers."""
    if not studies:
        return f"**{NO_STUDY}**"
    study = studies[0]
    alt = (
        f"Precision@1 and drop on unseen classes of {len(study.rows)} experiments on "
        f"{study.about['dataset']['name']}, with intervals"
    )
    more = [*sentences.remarks(study), "[All figures, and what they do not show](docs/results.md)."]
    paragraphs = [f"**{sentences.headline(study)}** {' '.join(more)}"]
    heads = [one for one in studies if one.heads_only]
    if heads and not study.heads_only:
        said = [sentences.headline(heads[0]), *sentences.remarks(heads[0])]
        paragraphs.append(f"Without training a network: {' '.join(said)}")
    return "\n\n".join([*paragraphs, f"![{alt}](docs/results/{study.name}/answer.svg)"])


def with_block(readme, block):
    """The text of a README with ``block`` between its markers; StudyError if it has not each once."""
    if (readme.count(BEGIN), readme.count(END)) != (1, 1):
        raise StudyError(f"README.md: needs the lines {BEGIN!r} and {END!r}, once each")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def section(study):
    """The part of the page about one study."""
    data = study.about["dataset"]
    title = f"{data['name']}: {'drawn images' if study.drawn else 'photographs'} (`{study.name}`)"
    parts = [f"## {title}", " ".join([sentences.headline(study), *sentences.remarks(study)])]
    told = [(title, say(study)) for title, say in sentences.QUESTIONS] + answered(study)
    answers = "\n".join(f"- **{title}** {' '.join(text)}" for title, text in told)
    parts.append(answers)
    folder = f"results/{study.name}"
    parts.append(f"![Precision@1 and drop of each experiment, with intervals]({folder}/answer.svg)")
    parts.append(table(study))
    if study.untrained:
        parts.append(
            "A row without training has no drop: its two models are the same. In the columns of "
            "differences, *not shown* means that the interval contains 0."
        )
    parts.append(f"![Accuracy on unseen classes by enrolled images]({folder}/enrolment.svg)")
    shown_lines = few(study)
    if len(shown_lines) < len(study.rows):
        parts.append(
            f"*The picture shows {len(shown_lines)} of {len(study.rows)} rows: the first of the "
            "questions above, the classifier, the features before training, and those with the "
            "highest precision@1.*"
        )
    parts.append(f"![AUROC of rejecting unseen classes, with intervals]({folder}/rejection.svg)")
    parts.append("### What was run, and what differs from the published protocol")
    parts += differences(study)
    parts.append("### What cannot be concluded")
    parts.append("\n".join(f"- {sentence}" for sentence in limits.limits(study)))
    return _wrapped_headings("\n\n".join(parts), study.name) + "\n"


def _wrapped_headings(text, name):
    """Headings of a section with the study's name, so that anchors of several studies differ."""
    return re.sub(r"^(### .*)$", rf"\1 (`{name}`)", text, flags=re.MULTILINE)


def table(study):
    """The main table: a row per experiment, and one for the classifier's softmax."""
    head = (
        "experiment",
        "precision@1, all classes",
        "minus softmax of the classifier",
        "minus features before training",
        "unseen classes, limited model",
        "drop on unseen classes",
    )
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in study.rows:
        cells = [
            _label(study, name),
            with_interval(study.metric(name, "precision_at_1")),
            _difference(study.difference(name, "classifier")),
            _difference(study.difference(name, UNTRAINED)),
            with_interval(study.metric(name, UNSEEN)),
            with_interval(study.metric(name, "precision_drop_unseen_classes")).replace(" %", ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if name == study.classifier:
            softmax = with_interval(study.metric(name, "softmax_accuracy"))
            lines.append(f"| {code(name)}, its softmax | {softmax}{f' | {EMPTY}' * 4} |")
    return "\n".join(lines)


def _label(study, name):
    entry = study.entry(name)
    if entry["untrained"]:
        return f"{code(entry['recipe']['backbone'])} untrained: {entry['weights']}"
    return code(name)


def _difference(row):
    if row is None:
        return EMPTY
    sign = "+" if row["difference"] > 0 else ""
    low, high = (hundredths(row[key]) for key in ("low", "high"))
    text = f"{sign}{hundredths(row['difference'])} [{low}, {high}]"
    return text if shown(row) else f"{text}: not shown"


def differences(study):
    """Paragraphs and tables of what differs from the published study."""
    entries = {name: study.entry(name) for name in study.trained}
    common = [
        row
        for row in next(iter(entries.values()), {"changes": []})["changes"]
        if all(row in entry["changes"] for entry in entries.values())
    ]
    rows = [*study.about["protocol"], *common]
    parts = []
    if rows:
        lines = ["| what | published | here |", "|---|---|---|"]
        lines += [
            f"| {in_words(key)} | {value_in_words(key, then)} | {value_in_words(key, now)} |"
            for key, then, now in rows
        ]
        parts.append("\n".join(lines))
    else:
        parts.append("Data, split and all that experiments share are as published.")
    lines = []
    for name, entry in entries.items():
        own = [row for row in entry["changes"] if row not in common]
        words = [
            f"{in_words(key)} {value_in_words(key, now)} in place of {value_in_words(key, then)}"
            for key, then, now in own
        ]
        text = f"- {code(name)}: nearest published experiment {code(entry['like'])}"
        text += f"; {'; '.join(words)}" if words else "; nothing else differs"
        if entry["selected"]:
            chosen = [
                f"{in_words(key)} {value_in_words(key, one)}"
                for key, one in entry["selected"].items()
            ]
            text += f". Selected{_budget(study, name)}: {', '.join(chosen)}"
        lines.append(f"{text}.")
    parts.append("\n".join(lines))
    if study.untrained:
        lines = [
            f"- {code(name)}: {code(study.entry(name)['recipe']['backbone'])} as it comes, "
            f"{study.entry(name)['weights']}."
            for name in study.untrained
        ]
        parts.append("Without training:\n\n" + "\n".join(lines))
    return parts


def _budget(study, name):
    """Of how many candidates values were selected, in words."""
    rows = study.tables[TUNING]
    rows = rows[rows["experiment"] == name]
    epochs = number_of(rows["epochs"].iat[0], "epoch")
    return f" on images of seen classes, of {len(rows)} candidates with {epochs} each"
