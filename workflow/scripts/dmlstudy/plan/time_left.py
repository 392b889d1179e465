"""When a study will be done: expected seconds of jobs, corrected by measured ones, side by side on slots.

What a job of training has to do is known from the projection (`projection.runs`). How long that takes is
known from `make estimate`, if it was run. Both are corrected by what was measured in this study: trainings
of the same kind of step, else of the same rule, else all of them. Other jobs take as long as jobs of the
same rule took. No torch.
"""

import heapq
from typing import NamedTuple

from dmlstudy.plan.rule_seconds import START, usual_seconds

# A step forwards and backwards takes about three times as long as forwards only.
STEP = 3
# A job that should have ended already is expected to take this share of its time more.
OVERDUE = 0.1


class Measured(NamedTuple):
    """A job that was measured. ``work``: of `job_list.works`, None for jobs that train nothing.

    ``seconds``: of the whole job; ``busy``: of training and evaluation, None if not known.
    """

    rule: str
    work: dict | None
    seconds: float
    busy: float | None = None


class Due(NamedTuple):
    """A job that is not done. ``seconds``: expected from now on; ``after``: indices of jobs that it waits for."""

    seconds: float
    threads: int = 1
    gpu: int = 0
    after: tuple = ()
    running: bool = False
    priority: int = 0


def usable(estimate):
    """What `make estimate` stored, without steps that are no three positive numbers; None if nothing is left."""
    if not isinstance(estimate, dict) or not isinstance(estimate.get("steps"), dict):
        return None

    def positive(value):
        return isinstance(value, (int, float)) and 0 < value < float("inf")

    steps = {
        step: rates
        for step, rates in estimate["steps"].items()
        if isinstance(rates, list) and len(rates) == 3 and all(map(positive, rates))
    }
    start = estimate.get("start")
    return {"start": start if positive(start) else None, "steps": steps} if steps else None


def nominal(work, estimate=None):
    """Seconds of training and evaluation of a work, or arbitrary units if its step was not estimated.

    ``estimate``: {"start", "steps"} of `projection.store_rates`, or None. Returns (value, whether it is
    in seconds).
    """
    rates = ((estimate or {}).get("steps") or {}).get(work["step"])
    if rates:
        counts = (work["trained"], work["embedded"], work["compared"])
        return sum(count / rate for count, rate in zip(counts, rates, strict=True)), True
    return (STEP * work["trained"] + work["embedded"]) * work["cost"], False


class Expectations:
    """Expected seconds of jobs. ``measured``: list of `Measured`; ``estimate``: as for `nominal`."""

    def __init__(self, measured, estimate=None):
        self.estimate = estimate
        self.by_rule, self.trainings = {}, []
        for one in measured:
            if one.work is None:
                self.by_rule.setdefault(one.rule, []).append(one.seconds)
            else:
                self.trainings.append(one)
        usual = sum(usual_seconds(rule) * len(found) for rule, found in self.by_rule.items())
        self.ratio = sum(map(sum, self.by_rule.values())) / usual if usual else 1.0

    def start(self, rule):
        """Seconds of a training job besides training and evaluation: measured, else estimated, else usual."""
        for group in ([one for one in self.trainings if one.rule == rule], self.trainings):
            rest = [one.seconds - one.busy for one in group if one.busy is not None]
            if rest:
                return max(0.0, sum(rest) / len(rest))
        return (self.estimate or {}).get("start") or START

    def _busy_of(self, one):
        """Seconds of training and evaluation of a measured job; what is left after the start, if not told."""
        return max(one.seconds - self.start(one.rule), 0.0) if one.busy is None else one.busy

    def busy(self, rule, work):
        """Expected seconds of training and evaluation of a work; None if nothing tells."""
        value, known = nominal(work, self.estimate)
        groups = (
            [one for one in self.trainings if one.work["step"] == work["step"]],
            [one for one in self.trainings if one.rule == rule],
            self.trainings,
        )
        for group in groups:
            # Seconds are not compared with arbitrary units.
            pairs = [(self._busy_of(one), nominal(one.work, self.estimate)) for one in group]
            pairs = [(busy, found[0]) for busy, found in pairs if found[1] == known]
            whole = sum(found for _, found in pairs)
            if whole > 0:
                return value * sum(busy for busy, _ in pairs) / whole
        return value if known else None

    def of(self, rule, work=None):
        """Expected seconds of a whole job; None if nothing tells."""
        if work is None:
            if rule in self.by_rule:
                return sum(self.by_rule[rule]) / len(self.by_rule[rule])
            return usual_seconds(rule) * self.ratio
        busy = self.busy(rule, work)
        return None if busy is None else busy + self.start(rule)


def of_running(expected, elapsed):
    """Seconds that a running job still takes, of which only the beginning is known."""
    return max(expected - elapsed, OVERDUE * expected)


def of_running_training(rows, epochs, work, since_last, rest):
    """Seconds that a running training still takes, by its own curve.

    ``rows``: [(epoch, seconds of training)] so far; ``epochs``: of the whole; ``since_last``: seconds since the
    last row; ``rest``: seconds that a training takes besides its epochs, at the end. Evaluation between the
    epochs counts in proportion to the images that it embeds.
    """
    each = _of_an_epoch(rows, work)
    left = epochs - max(epoch for epoch, _ in rows)
    return max(left * each - min(since_last, each), 0.0) + rest


def busy_so_far(rows, epochs, work):
    """Expected seconds of training and evaluation of the whole of a training that is running, by its curve."""
    return _of_an_epoch(rows, work) * epochs


def _of_an_epoch(rows, work):
    """Mean seconds of an epoch with its share of evaluation; arguments as for `of_running_training`."""
    each = sum(seconds for _, seconds in rows) / len(rows)
    if work["trained"]:
        each *= 1 + work["embedded"] / (STEP * work["trained"])
    return each


def seconds_left(jobs, cores, gpus=None):
    """When the last of ``jobs`` ends if they start as soon as inputs and slots allow.

    ``jobs``: {index: `Due`}; indices in ``after`` that are not among them are done. ``cores``, ``gpus``: slots;
    ``gpus`` None: unlimited. Higher priorities go first, then longer jobs.
    """
    free = [cores, float("inf") if gpus is None else gpus]
    waits = {index: {one for one in job.after if one in jobs} for index, job in jobs.items()}
    followers = {}
    for index, needed in waits.items():
        for one in needed:
            followers.setdefault(one, []).append(index)
    ends, ready, clock = [], [], 0.0

    def need(job):
        # As Snakemake does: a job that asks for more than there is gets what there is.
        return min(job.threads, cores), 0 if gpus is None else min(job.gpu, gpus)

    def start(index):
        job = jobs[index]
        threads, gpu = need(job)
        free[0] -= threads
        free[1] -= gpu
        heapq.heappush(ends, (clock + job.seconds, index))

    def end(index):
        threads, gpu = need(jobs[index])
        free[0] += threads
        free[1] += gpu
        for other in followers.get(index, ()):
            waits[other].discard(index)
            if not waits[other] and not jobs[other].running:
                ready.append(other)

    for index, job in jobs.items():
        # What runs now, runs, whatever there should be of slots.
        if job.running:
            start(index)
        elif not waits[index]:
            ready.append(index)
    while ends or ready:
        ready.sort(key=lambda index: (-jobs[index].priority, -jobs[index].seconds, index))
        kept = []
        for index in ready:
            threads, gpu = need(jobs[index])
            if threads <= free[0] and gpu <= free[1]:
                start(index)
            else:
                kept.append(index)
        ready = kept
        if not ends:
            raise ValueError("jobs that never fit into the slots")
        clock = ends[0][0]
        # All that end now make room before the next are chosen.
        while ends and ends[0][0] == clock:
            end(heapq.heappop(ends)[1])
    return clock
