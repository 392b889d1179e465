"""Candidates for a faster training step, each beside the step of today. None of them is in the library.

A step is forward, loss, backward, optimizer. All candidates start from the same weights and see the same
batches, whose images are in the memory of the device. First each trains a few steps, and its weights are
compared with those of today's step; then they take turns.
"""

import contextlib
import statistics
import time
from functools import partial

import torch
from gpu_setting import estimate_program, seconds_of, synchronise
from measuring import in_turn, ratio

from dmlstudy.compute.devices import autocast
from dmlstudy.train.trainer import train_epoch

TODAY = "today"
# benchmarks/precision.py shows that bfloat16 and float32 give the same accuracy. So the difference between the
# two is a yardstick: a candidate may change weights by this many times as much.
TOLERANCE = 2
# Steps before a CUDA graph is captured, as torch advises.
WARM_UP = 3


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


def captured(step, device):
    """Function that runs ``step`` as one CUDA graph; without CUDA it is the step itself.

    The step runs `WARM_UP` times before.
    """
    if device.type != "cuda":
        for _ in range(WARM_UP):
            step()
        return step
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class WholeStep:
    """A whole step of a `Trainer` in one CUDA graph: forward, loss, gradients and optimizer.

    ``model``: what runs the forward pass, the trainer's model or a compiled one; ``sample``: a batch
    (images, labels), whose shapes all batches have. The capture changes no weights.
    """

    def __init__(self, trainer, model, sample):
        self.device, self.images, self.labels = trainer.device, *(one.clone() for one in sample)
        loss, optimizer = trainer.loss, trainer.optimizer
        for group in optimizer.param_groups:
            # A number would be part of the graph, and no schedule could change it.
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
        trainer.model.train()

        def step():
            # No cache: a replay would use weights that were cast during the capture.
            with autocast(self.device, trainer.recipe.precision, cache=False):
                embeddings = model(self.images)
            self.value = loss(embeddings.float(), self.labels)
            self.value.backward()
            optimizer.step()
            # Each replay makes the gradients anew, so nothing has to be set to zero.
            optimizer.zero_grad(set_to_none=True)

        with undone(trainer):
            self.replay = captured(step, self.device)

    def epoch(self, batches):
        """Train on (images, labels); returns the mean loss."""
        total = torch.zeros((), device=self.device)
        for images, labels in batches:
            self.images.copy_(images)
            self.labels.copy_(labels)
            self.replay()
            total += self.value.detach()
        return float(total) / len(batches)


def epoch_of(trainer, batches):
    """Today's loop of steps."""
    return train_epoch(
        trainer.trained_model, trainer.loss, trainer.optimizer, batches, trainer.device,
        trainer.recipe.precision,
    )  # fmt: skip


def graphed(trainer):
    """Give a trainer today's CUDA graphs of forward and backward, where there is a GPU."""
    if trainer.device.type == "cuda":
        trainer.trained_model = trainer.graphed(trainer.changing)
    return partial(epoch_of, trainer)


def compiled(model, device):
    """A compiled model. A CPU compiles nothing: the eager backend stands in for the compiler."""
    backend = "inductor" if device.type == "cuda" else "eager"
    return torch.compile(model, backend=backend, dynamic=False)


def with_optimizer(trainer, kind, **settings):
    """Today's step with torch's optimizer of that name in other settings."""
    groups = [
        {key: group[key] for key in ("params", "lr", "weight_decay")}
        for group in trainer.optimizer.param_groups
    ]
    trainer.optimizer = getattr(torch.optim, kind)(groups, **settings)
    return graphed(trainer)


def with_own_batchnorm(trainer):
    """Today's step, with torch's own kernels of BatchNorm instead of cuDNN's."""

    def own(forward, *arguments):
        cudnn = torch.backends.cudnn
        with cudnn.flags(
            enabled=False,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=cudnn.allow_tf32,
        ):
            return forward(*arguments)

    for module in trainer.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.forward = partial(own, module.forward)
    return graphed(trainer)


def batchnorm_dtypes(trainer, images):
    """What the first BatchNorm of a step gets: one line of text."""
    layer = next(one for one in trainer.model.modules() if isinstance(one, torch.nn.BatchNorm2d))
    seen = []
    handle = layer.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    with (
        undone(trainer),
        autocast(trainer.device, trainer.recipe.precision),
        torch.no_grad(),
    ):
        trainer.model(images)
    handle.remove()
    took, gave = seen[0]
    last = took.is_contiguous(memory_format=torch.channels_last)
    return (
        f"BatchNorm takes {took.dtype}, {'' if last else 'not '}channels-last, and gives {gave.dtype}; "
        f"its statistics are {layer.running_mean.dtype}"
    )


def candidates(sample):
    """{name: (builder of a `Trainer`'s function of batches, name of what it is compared with)}."""

    def whole(trainer):
        return WholeStep(trainer, trainer.model, sample).epoch

    def compile_only(trainer):
        trainer.trained_model = compiled(trainer.model, trainer.device)
        return partial(epoch_of, trainer)

    def compile_whole(trainer):
        return WholeStep(trainer, compiled(trainer.model, trainer.device), sample).epoch

    adam = f"{TODAY}, Adam"
    return {
        TODAY: (graphed, TODAY),
        "whole step in one graph": (whole, TODAY),
        "compiled": (compile_only, TODAY),
        "compiled, whole step in one graph": (compile_whole, TODAY),
        "SGD foreach": (partial(with_optimizer, kind="SGD", foreach=True), TODAY),
        "SGD one by one": (partial(with_optimizer, kind="SGD", foreach=False, fused=False), TODAY),
        "torch's own BatchNorm": (with_own_batchnorm, TODAY),
        adam: (graphed, adam),
        "Adam foreach": (partial(with_optimizer, kind="Adam", foreach=True), adam),
        "Adam fused, capturable": (
            partial(with_optimizer, kind="Adam", fused=True, capturable=True), adam
        ),
        "Adam, whole step in one graph": (capturable_whole_step(sample), adam),
    }  # fmt: skip


def capturable_whole_step(sample):
    """Builder of `WholeStep` with an Adam that a graph can hold."""

    def build(trainer):
        on_gpu = trainer.device.type == "cuda"
        with_optimizer(trainer, "Adam", fused=True, capturable=on_gpu)
        return WholeStep(trainer, trainer.model, sample).epoch

    return build


def stands_in(name, device, *, graphs=True):
    """What a row lacks on a device, as text; ``graphs``: whether it has CUDA graphs on a GPU."""
    missing = []
    if device.type != "cuda":
        missing += ["no CUDA graphs"] if graphs else []
        missing += ["eager instead of compiled"] if "compiled" in name else []
        missing += ["no cuDNN"] if "own BatchNorm" in name else []
    return ", ".join(missing)


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


def times_rounding(state, other, rounded):
    """How many times as far as ``rounded`` a state is from ``other``; all {name: tensor}.

    By the norm of the difference of all weights and, apart, of BatchNorm's statistics; the larger one counts.
    """
    found = []
    for of_statistics in (False, True):
        names = [
            name
            for name, value in other.items()
            if value.is_floating_point() and name.endswith(STATISTICS) == of_statistics
        ]

        def norm(one, names=names):
            parts = [(one[name] - other[name]).double().norm() for name in names]
            return float(torch.stack(parts).norm()) if parts else 0.0

        expected = norm(rounded)
        found.append(norm(state) / expected if expected else 0.0)
    return max(found)


def equal(state, other):
    return all(torch.equal(state[name], value) for name, value in other.items())


def weights_of(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def base_recipe(setting, backbone, name, precision):
    optimizer = {"kind": "adam" if "Adam" in name else "sgd"}
    # Graphs are captured after the changes of a candidate.
    return setting.recipe(
        backbone=backbone, optimizer=optimizer, precision=precision, cuda_graphs=False
    )


def new_trainer(recipe):
    """A `Trainer` on drawn pixels, as `make estimate` draws them."""
    return estimate_program().prepared(recipe, recipe.batch_size)[0]


def batches_of(trainer, count):
    """``count`` full batches in the memory of the device."""
    generator, size = torch.Generator().manual_seed(0), trainer.recipe.batch_size
    rows, labels = torch.as_tensor(trainer.rows), torch.as_tensor(trainer.labels)
    return [
        (trainer.augment(rows[:size].roll(number), generator), labels[:size].to(trainer.device))
        for number in range(count)
    ]


def trained_weights(recipe, build, batches):
    """(function of batches, weights after them) of a fresh trainer."""
    trainer = new_trainer(recipe)
    epoch = build(trainer)
    epoch(batches)
    return epoch, weights_of(trainer)


def steps(setting, report):
    """The part ``step``."""
    device = setting.torch_device()
    for backbone in setting.backbones:
        with report.attempt(f"steps of {backbone}"):
            of_backbone(setting, report, device, backbone)


class Reference:
    """Today's step of an optimizer: its function of batches, its weights, and those of the other precision."""

    def __init__(self, setting, backbone, name, precision, batches):
        other = "float32" if precision == "bfloat16" else "bfloat16"
        rounded = base_recipe(setting, backbone, name, other)
        self.name, self.rounded = name, trained_weights(rounded, graphed, batches)[1]
        recipe = base_recipe(setting, backbone, name, precision)
        self.epoch, self.weights = trained_weights(recipe, graphed, batches)
        self.text = (
            f"{name}: {other} instead of {precision} changes weights by "
            f"{difference(self.rounded, self.weights):.1e} in {len(batches)} steps; a candidate may be "
            f"{TOLERANCE} times as far (by norms)"
        )


def of_backbone(setting, report, device, backbone):
    precision = setting.precision(device)
    first = new_trainer(base_recipe(setting, backbone, TODAY, precision))
    batches = batches_of(first, setting.steps)
    report.say(f"{backbone}, {precision}: {batchnorm_dtypes(first, batches[0][0])}")
    del first
    references = {}
    # One candidate at a time beside today's step: the memory of all their graphs would not fit.
    for name, (build, reference) in candidates(batches[0]).items():
        if setting.left() <= 0:
            report.say(f"left out for lack of time: {name} and what follows")
            break
        with report.attempt(f"{backbone}, {name}"):
            if reference not in references:
                one = Reference(setting, backbone, reference, precision, batches)
                references[reference] = one
                report.say(one.text)
            against(setting, report, device, backbone, name, build, references[reference], batches)


def against(setting, report, device, backbone, name, build, reference, batches):
    """Row and line of a candidate."""
    precision, began = setting.precision(device), 0.0
    epoch, weights = reference.epoch, reference.weights
    if name != reference.name:
        begun = time.perf_counter()
        recipe = base_recipe(setting, backbone, name, precision)
        epoch, weights = trained_weights(recipe, build, batches)
        synchronise(device)
        began = time.perf_counter() - begun
    calls = {reference.name: partial(reference.epoch, batches), name: partial(epoch, batches)}
    timed = {one: partial(seconds_of, call, device) for one, call in calls.items()}
    seconds = in_turn(timed, setting.rounds)
    same = equal(weights, reference.weights)
    farther = times_rounding(weights, reference.weights, reference.rounded)
    row = {
        "backbone": backbone,
        "precision": precision,
        "candidate": name,
        "images_per_second": len(batches) * setting.batch / statistics.median(seconds[name]),
        "compared_with": reference.name,
        "times": ratio(seconds, reference.name, name),
        "same_bits": same,
        "greatest_difference": 0.0 if same else difference(weights, reference.weights),
        "times_rounding": farther,
        "within_tolerance": farther <= TOLERANCE,
        "seconds_to_begin": began,
        "stand_in": stands_in(name, device),
    }
    report.row(**row)
    verdict = "within" if row["within_tolerance"] else "OVER"
    judged = (
        "same bits"
        if same
        else f"weights differ by {row['greatest_difference']:.1e}, {farther:.1f} × rounding ({verdict} "
        "the tolerance)"
    )
    missing = f"  [{row['stand_in']}]" if row["stand_in"] else ""
    report.say(
        f"{backbone:<9} {name:<34} {row['images_per_second']:>9.1f} images/s  "
        f"{row['times']:.3f} × {reference.name}  {judged}{missing}"
    )
