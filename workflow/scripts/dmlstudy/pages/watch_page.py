"""The page of a study while it runs: jobs by rule, trainings with their curves, time left, failures."""

import time

from dmlstudy.pages.rendering import model_title, render
from dmlstudy.plan.snapshot import duration, left_words
from dmlstudy.plan.study_state import DONE, FAILED, RUNNING, WAITING

# Width and height of a drawn curve, in the units of its own picture.
WIDTH, HEIGHT = 100, 30
# Order of trainings: what one looks for first.
ORDER = {FAILED: 0, RUNNING: 1, WAITING: 2, DONE: 3}


def path_of(values, most=None):
    """An SVG path through (epoch, value) pairs, from 0 to ``most`` (default: the largest value); "" without."""
    pairs = [(epoch, value) for epoch, value in values if value is not None]
    if not pairs:
        return ""
    top = most or max(value for _, value in pairs) or 1
    first, last = pairs[0][0], max(pairs[-1][0], pairs[0][0] + 1)
    points = [
        f"{WIDTH * (epoch - first) / (last - first):.1f} "
        f"{HEIGHT * (1 - min(max(value / top, 0), 1)):.1f}"
        for epoch, value in pairs
    ]
    # One point alone would draw nothing.
    return f"M {points[0]} h 1" if len(points) == 1 else "M " + " L ".join(points)


def _rules(jobs, states):
    """[{"rule", "all", states…}] in the order in which Snakemake's plan needs them."""
    found = {}
    for job, one in zip(jobs, states, strict=True):
        row = found.setdefault(job["rule"], dict.fromkeys((DONE, RUNNING, WAITING, FAILED), 0))
        row[one.state] += 1
    depths = _depths(jobs)
    order = {}
    for index, job in enumerate(jobs):
        order[job["rule"]] = max(order.get(job["rule"], 0), depths[index])
    return [
        {"rule": rule, "all": sum(found[rule].values()), **found[rule]}
        for rule in sorted(found, key=lambda rule: (order[rule], rule))
    ]


def _depths(jobs):
    """How many jobs stand one after another before each."""
    depths = {}
    for index in range(len(jobs)):
        waiting = [index]
        while waiting:
            one = waiting[-1]
            missing = [before for before in jobs[one]["after"] if before not in depths]
            if missing:
                waiting += missing
            else:
                depths[one] = 1 + max((depths[b] for b in jobs[one]["after"]), default=0)
                waiting.pop()
    return depths


def _training(job, one, moment):
    """A row of the table of trainings."""
    facts, work = job["training"], job["work"] or {}
    losses = [(row.epoch, row.loss) for row in one.rows if row.loss is not None]
    tested = [(row.epoch, row.accuracy) for row in one.rows if row.accuracy is not None]
    elapsed = None
    if one.begun is not None and (one.ended is not None or one.state == RUNNING):
        elapsed = duration((one.ended or moment) - one.begun)
    words = []
    if losses:
        words.append(
            f"training loss {losses[0][1]:.4g} after epoch {losses[0][0]}, {losses[-1][1]:.4g} after "
            f"epoch {losses[-1][0]}"
        )
    if tested:
        words.append(f"test accuracy {100 * tested[-1][1]:.1f} % after epoch {tested[-1][0]}")
    return {
        "name": facts["name"],
        "seed": facts["seed"],
        "model": model_title(facts["class_set"]),
        "state": one.state,
        "note": one.note,
        "epochs": one.epochs,
        "of": work.get("epochs"),
        "elapsed": elapsed,
        "loss": losses[-1][1] if losses else None,
        "accuracy": tested[-1][1] if tested else None,
        "loss_path": path_of(losses),
        "accuracy_path": path_of(tested, 1),
        "alt": "; ".join(words),
    }


def watch_page(snapshot, *, seconds, ended=""):
    """The page as HTML. ``seconds``: between two pages; ``ended``: why no further one follows, or ""."""
    plan, moment = snapshot.plan, snapshot.taken
    pairs = list(zip(plan["jobs"], snapshot.states, strict=True))
    trainings = [_training(job, one, moment) for job, one in pairs if job["training"]]
    trainings.sort(key=lambda row: ORDER[row["state"]])
    others = [
        {
            "title": job["title"],
            "note": one.note,
            "elapsed": duration(moment - (one.begun or moment)),
        }
        for job, one in pairs
        if one.state == RUNNING
    ]
    waiting = [
        {"title": job["title"], "note": one.note}
        for job, one in pairs
        if one.state == WAITING and one.note
    ]
    counts = snapshot.counts
    alive = snapshot.alive
    return render(
        "watch.html.j2",
        title=f"{plan['data']}: the study while it runs",
        results=plan["results"],
        counts=counts,
        share=round(100 * counts[DONE] / max(1, len(pairs))),
        total=len(pairs),
        left=left_words(snapshot),
        finished=snapshot.finished,
        rules=_rules(plan["jobs"], snapshot.states),
        trainings=trainings,
        running=others,
        unclear=waiting,
        failures=snapshot.failures,
        alive=alive
        and {"host": alive.host, "process": alive.process, "since": _clock(alive.begun)},
        doubtful=[run.host for run in snapshot.runs if run.alive is None],
        slots=snapshot.slots,
        measured=snapshot.measured,
        unknown=snapshot.unknown,
        estimated=snapshot.estimated,
        written=_clock(moment),
        stamp=round(moment * 1000),
        seconds=f"{seconds:g}",
        ended=ended,
    )


def _clock(moment):
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))
