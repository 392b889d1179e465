"""Builds the page of one experiment. All numbers come from its tables."""

from dmlstudy.evaluate.health_table import counted
from dmlstudy.pages.outline import SECTIONS
from dmlstudy.pages.rendering import render, render_fragment

# Metrics at the top of the page, and their titles there.
KEY_METRICS = {
    "precision_at_1": "precision@1, all classes",
    "softmax_accuracy": "softmax accuracy",
    "limited_precision_at_1_unseen_classes": "limited model, unseen classes",
    "limited_precision_at_1_seen_classes": "limited model, seen classes",
    "limited_harmonic_mean": "limited model, harmonic mean",
    "precision_drop_unseen_classes": "drop, unseen classes",
}


def experiment_page(experiment, note, links):
    """The page of an `Experiment` as HTML.

    ``note``: a text about the data, shown at the top; ``links``: {"index": (link from the page's
    folder, link inside a Snakemake report)}.
    """
    by_metric = experiment.metrics.set_index("metric")
    summary = experiment.models[experiment.full]["summary"]
    rendered, scripts = [], []
    for section in SECTIONS:
        values = section.values(experiment)
        content = render_fragment(section.template, **values)
        rendered.append(
            {
                "anchor": section.anchor,
                "label": section.label,
                "title": section.title,
                "content": content,
            }
        )
        if section.script:
            scripts.append(render_fragment(section.script, **values))
    return render(
        "report.html.j2",
        title=experiment.name,
        note=note,
        links=links,
        details=experiment.description["details"],
        protocol={
            "queries": summary["queries"],
            "gallery": summary["gallery"],
            "classes": summary["classes"],
            "unseen": int((~experiment.seen[experiment.limited]).sum()),
            "seeds": [run["seed"] for run in experiment.runs],
            "draws": len(experiment.models) - 1,
        },
        tiles=[
            {"title": title, **by_metric.loc[metric]}
            for metric, title in KEY_METRICS.items()
            if metric in by_metric.index
        ],
        health=counted(experiment.health),
        sections=rendered,
        scripts=scripts,
        sprite=experiment.images.sprite,
        columns=experiment.images.columns,
    )
