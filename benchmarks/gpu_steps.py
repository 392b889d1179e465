"""Candidates for a faster training step, each beside the step of today. None of them is in the library.

A step is forward, loss, backward, optimizer. All candidates start from the same weights and see the same
batches, whose images are in the memory of the device. First each trains a few steps, and its weights are
compared with those of today's step (`gpu_weights`); then the two take turns.
"""

import statistics
import time
from functools import partial

import torch
from gpu_setting import estimate_program, seconds_of, synchronise
from gpu_weights import (
    TOLERANCE,
    difference,
    distance,
    equal,
    error_of_update,
    exact_arithmetic,
    times_rounding,
    undone,
    weights_of,
)
from measuring import in_turn, ratio

from dmlstudy.compute.devices import autocast
from dmlstudy.train.trainer import train_epoch

TODAY = "today"
# Steps before a CUDA graph is captured, as torch advises.
WARM_UP = 3


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
    """Today's step of an optimizer: its function of batches, and its weights in several precisions.

    ``rounded``: weights in the other precision; ``exact``: in float32 without TF32, where few steps differ
    by the order of sums only; ``start``: before the steps.
    """

    def __init__(self, setting, backbone, name, precision, batches):
        other = "float32" if precision == "bfloat16" else "bfloat16"
        self.name = name
        self.start = weights_of(new_trainer(base_recipe(setting, backbone, name, precision)))
        self.rounded = self.after(setting, backbone, graphed, batches, other)[1]
        self.epoch, self.weights = self.after(setting, backbone, graphed, batches, precision)
        with exact_arithmetic():
            self.exact = self.after(setting, backbone, graphed, batches, "float32")[1]
        if not distance(self.exact, self.start):
            raise RuntimeError(
                "today's step changes no weights on these batches: nothing to compare"
            )
        self.text = (
            f"{name}: {other} instead of {precision} changes weights by "
            f"{difference(self.rounded, self.weights):.1e} in {len(batches)} steps"
        )

    def after(self, setting, backbone, build, batches, precision):
        """(function of batches, weights after them) of a candidate of this optimizer."""
        recipe = base_recipe(setting, backbone, self.name, precision)
        return trained_weights(recipe, build, batches)


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
        epoch, weights = reference.after(setting, backbone, build, batches, precision)
        synchronise(device)
        began = time.perf_counter() - begun
    calls = {reference.name: partial(reference.epoch, batches), name: partial(epoch, batches)}
    timed = {one: partial(seconds_of, call, device) for one, call in calls.items()}
    seconds = in_turn(timed, setting.rounds)
    same = equal(weights, reference.weights)
    farther = times_rounding(weights, reference.weights, reference.rounded)
    error = 0.0 if same else None
    # Compiling takes long, so this is done for one network only.
    if not same and backbone == setting.backbones[0]:
        with exact_arithmetic():
            found = reference.after(setting, backbone, build, batches, "float32")[1]
        error = error_of_update(found, reference.exact, reference.start)
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
        "float32_error_of_update": error,
        "within_tolerance": None if error is None else error <= TOLERANCE,
        "seconds_to_begin": began,
        "stand_in": stands_in(name, device),
    }
    report.row(**row)
    judged = "same bits"
    if not same:
        told = "not compared" if error is None else f"{error:.1e} of the update"
        verdict = " (OVER the tolerance)" if row["within_tolerance"] is False else ""
        judged = (
            f"weights differ by {row['greatest_difference']:.1e}, {farther:.1f} × rounding; in float32 "
            f"{told}{verdict}"
        )
    missing = f"  [{row['stand_in']}]" if row["stand_in"] else ""
    report.say(
        f"{backbone:<9} {name:<34} {row['images_per_second']:>9.1f} images/s  "
        f"{row['times']:.3f} × {reference.name}  {judged}{missing}"
    )
