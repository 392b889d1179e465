"""How long jobs of a rule take in proportion to each other, until a study has measured them itself.

Medians of the tests' study (78 jobs, 36 small images) on two cores that other programs also used. Once jobs
of any rule were measured, the others count by the same ratio; a rule that was measured counts by its own jobs.
"""

SECONDS = {
    "answer": 4,
    "check_health": 7,
    "choose_classes": 6,
    "claim_results": 1,
    "compare": 6,
    "describe": 1,
    "draw_dataset": 4,
    "evaluate": 4,
    "explain": 36,
    "extract_dataset": 2,
    "index_page": 11,
    "list_images": 6,
    "map_embeddings": 13,
    "measure_models": 58,
    "pack": 6,
    "report_page": 11,
    "score_rejection": 6,
    "split_dataset": 17,
    "thumbnails": 10,
    "track": 8,
}
# Of rules that this study does not have.
OTHER = 6
# Of a training job besides training and evaluation: imports, reading, writing.
START = 10


def usual_seconds(rule):
    """Seconds of a job of a rule that trains nothing."""
    return SECONDS.get(rule, OTHER)
