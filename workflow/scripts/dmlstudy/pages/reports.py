"""Builds the page of one experiment. All numbers come from its tables."""

from dmlstudy.evaluate.health_table import counted
from dmlstudy.pages.outline import SECTIONS
from dmlstudy.pages.rendering import render, render_fragment
from dmlstudy.pages.results.against import against
from dmlstudy.pages.results.cards import cards
from dmlstudy.pages.results.phrases import images
from dmlstudy.pages.results.sentences import remarks
from dmlstudy.pages.sections import embedding_map, heatmaps
from dmlstudy.pages.side_by_side import beside
from dmlstudy.pages.strip import strip


def experiment_page(experiment, study, note, links):
    """The page of an `Experiment` as HTML, and the script beside it: see `side_by_side.beside`.

    ``study``: a `study.Study` of the experiment and of those that it is compared with. ``note``: a text about the data, shown at the top; ``links``: {"index": (link from the page's
    folder, link inside a Snakemake report)}.
    """
    summary = experiment.models[experiment.full]["summary"]
    compared, axis = against(study)
    rendered, scripts, shown = [], [], {}
    for section in SECTIONS:
        values = shown[section.values] = section.values(experiment)
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
    page = render(
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
        cards=cards(study),
        remarks=remarks(study),
        against=compared,
        axis=axis,
        images=images(study),
        photographs=strip(experiment.images, experiment.seen[experiment.limited]),
        health=counted(experiment.health),
        sections=rendered,
        scripts=scripts,
        sprite=experiment.images.sprite,
        columns=experiment.images.columns,
    )
    return page, beside(experiment.name, shown[heatmaps.values], shown[embedding_map.values])
