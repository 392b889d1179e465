"""All metrics of the experiment, with intervals."""


def values(experiment):
    """``metrics``: rows of summary.csv."""
    return {"metrics": experiment.metrics.to_dict("records")}
