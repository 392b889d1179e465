"""How long jobs of a rule take in proportion to each other, until a study has measured them itself.

Means of the demo (227 jobs, 36 models of small images) on two cores at rest. Once jobs of any rule were measured,
the others count by the same ratio; a rule that was measured counts by its own jobs.
"""

SECONDS = {
    "answer": 2.4,
    "check_health": 0.2,
    "choose_classes": 0.3,
    "claim_results": 0.3,
    "compare": 3,
    "describe": 0.1,
    "draw_dataset": 2,
    "evaluate": 1.1,
    "explain": 2.3,
    "extract_dataset": 0.3,
    "index_page": 1,
    "list_images": 0.5,
    "map_embeddings": 3.4,
    "measure_models": 7,
    "pack": 0.6,
    "report_page": 1.1,
    "score_rejection": 1.3,
    "split_dataset": 0.5,
    "thumbnails": 0.5,
    "track": 1.2,
}
# Of rules that this study does not have.
OTHER = 1
# Of a training job besides training and evaluation: reading, writing, and a start as a fork (see `start.py`).
START = 1


def usual_seconds(rule):
    """Seconds of a job of a rule that trains nothing."""
    return SECONDS.get(rule, OTHER)
