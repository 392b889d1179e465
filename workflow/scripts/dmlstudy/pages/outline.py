"""The sections of an experiment's page, in order.

To add a section, write a module in ``sections`` with a function ``values``, a template
``report_ANCHOR.html.j2``, and add a line to `SECTIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dmlstudy.pages.sections import (
    answers,
    classes,
    confusions,
    curves,
    embedding_map,
    enrolment,
    health,
    heatmaps,
    metrics,
    neighbours,
    recipe,
    rejection,
    runs,
)


@dataclass(frozen=True)
class Section:
    """One section of the page.

    ``anchor``: its id on the page, which also names its template; ``label``: its entry in the
    navigation; ``title``: its heading. ``values(experiment)`` returns what the template shows, a
    dictionary. ``script``: a template that is rendered at the end of the page with the same values.
    """

    anchor: str
    label: str
    title: str
    values: Callable
    script: str = ""

    @property
    def template(self):
        return f"report_{self.anchor}.html.j2"


SECTIONS = (
    Section("health", "Health", "Health of the trainings", health.values),
    Section("classes", "Classes", "Classes", classes.values),
    Section("confusions", "Confusions", "Confusions", confusions.values),
    Section("neighbours", "Neighbours", "Neighbours of unseen classes", neighbours.values),
    Section("heatmaps", "Heat maps", "Where the models look", heatmaps.values),
    Section(
        "map", "Map", "Map of the embedding", embedding_map.values, "report_map_script.html.j2"
    ),
    Section("curves", "Curves", "Curves", curves.values),
    Section("metrics", "Metrics", "Metrics", metrics.values),
    Section(
        "enrolment",
        "Enrolment",
        "Enrolment: how many images of a new class are needed?",
        enrolment.values,
    ),
    Section(
        "answers",
        "Ways",
        "Ways of answering: is the nearest neighbour the best?",
        answers.values,
    ),
    Section(
        "rejection",
        "Rejection",
        "Rejection: does similarity show that a class is not enrolled?",
        rejection.values,
    ),
    Section("recipe", "Recipe", "Recipe", recipe.values),
    Section("runs", "Runs", "Runs", runs.values),
)
