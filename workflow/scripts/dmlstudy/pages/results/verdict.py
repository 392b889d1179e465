"""The question of enrolling, training a head or retraining, for studies that have tables of it."""

from dmlstudy.pages.results.kept import VERDICT
from dmlstudy.pages.results.phrases import code
from dmlstudy.pages.verdict.options import Options
from dmlstudy.pages.verdict.sentences import details, headline

QUESTION = "Enrol, train a head, or retrain?"


def answered(study):
    """[(question, sentences)] of a kept study; empty if it has no tables of it."""
    if not set(VERDICT) <= set(study.tables):
        return []
    options = Options(*(study.tables[name] for name in VERDICT))
    return [(QUESTION, [headline(options, code), *details(options, code)])]
