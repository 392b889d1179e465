"""Whether two ways to train give the same weights.

The first question is whether all bits are the same. If not, there is no tolerance for bfloat16: on the images
of a benchmark its rounding alone changes the update of EPSHN by most of its size, because embeddings that are
almost equal are mined in another order. So both ways also train in float32 without TF32, and the
difference is a share of what the training changes. benchmarks/precision.py tells what rounding does to
accuracy.
"""

import contextlib

import torch

# Largest error of the update in float32, as a share of its size.
TOLERANCE = 0.01


@contextlib.contextmanager
def exact_arithmetic():
    """Context in which products of float32 numbers are not rounded to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def live_tensors(module):
    """Parameters and buffers themselves. A state dict can hold copies."""
    return [*module.parameters(), *module.buffers()]


@contextlib.contextmanager
def undone(trainer):
    """Context after which weights, statistics and moments are what they were before, at the same addresses."""
    models = [*live_tensors(trainer.model), *live_tensors(trainer.loss)]
    before = [tensor.detach().clone() for tensor in models]
    # Not deepcopy, which would copy the parameters that are its keys.
    moments = {
        parameter: {k: v.clone() for k, v in state.items() if isinstance(v, torch.Tensor)}
        for parameter, state in trainer.optimizer.state.items()
    }
    yield
    with torch.no_grad():
        for tensor, value in zip(models, before, strict=True):
            tensor.copy_(value)
        for parameter, state in trainer.optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    # Moments that were not there yet begin at zero.
                    old = moments.get(parameter, {}).get(name)
                    value.zero_() if old is None else value.copy_(old)


def difference(state, other):
    """Greatest relative difference of two states {name: tensor}; 0 if they are equal bit for bit.

    Relative to the largest value of each tensor. Counters of batches are left out.
    """
    found = 0.0
    for name, value in other.items():
        if value.is_floating_point():
            scale = value.abs().max().clamp(min=1e-30)
            found = max(found, float((state[name] - value).abs().max() / scale))
    return found


STATISTICS = ("running_mean", "running_var")


def distance(state, other, *, statistics=False):
    """Norm of the difference of all weights, or of BatchNorm's statistics, of two states {name: tensor}."""
    parts = [
        (state[name] - value).double().norm()
        for name, value in other.items()
        if value.is_floating_point() and name.endswith(STATISTICS) == statistics
    ]
    return float(torch.stack(parts).norm()) if parts else 0.0


def relative(state, other, yardstick):
    """`distance` of ``state`` to ``other`` by that of ``yardstick``: of weights or statistics, the larger one."""
    found = []
    for statistics in (False, True):
        expected = distance(yardstick, other, statistics=statistics)
        own = distance(state, other, statistics=statistics)
        found.append(own / expected if expected else 0.0)
    return max(found)


def times_rounding(state, other, rounded):
    """How many times as far as ``rounded`` a state is from ``other``; all {name: tensor}."""
    return relative(state, other, rounded)


def error_of_update(state, other, start):
    """Distance of a state to ``other`` as a share of what the training changed since ``start``."""
    return relative(state, other, start)


def equal(state, other):
    return all(torch.equal(state[name], value) for name, value in other.items())


def weights_of(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
