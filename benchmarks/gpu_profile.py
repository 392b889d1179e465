"""Where the time of a step goes: kernels, gaps between them, and how far the memory's bandwidth is used.

The model of memory traffic has two figures, and the best possible step lies between them.

- ``operators``: every operator of PyTorch reads each of its inputs from memory once and writes each of its
  outputs once; views move nothing. Kernels as they are now cannot move less. BatchNorm moves more: it reads its
  input a second time.
- ``least``: only what has to be kept moves. What the gradients need is written once and read once, the images are
  read once, and the weights move five times: read forward and backward, their gradients written and
  read, and written by the optimizer. Everything else would have to stay on the chip.

The bandwidth is that of a large copy on the same device in the same run.
"""

import statistics
from functools import partial

import torch
from gpu_setting import peak_bandwidth, seconds_of, synchronise
from gpu_steps import base_recipe, batches_of, epoch_of, graphed, new_trainer
from gpu_study import simclr_recipe
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training import matrix_rate, operations_per_image

from dmlstudy.compute.embedding import embed, images_at_a_time
from dmlstudy.compute.memory import footprint
from dmlstudy.train.trainer import Trainer

TOP = 12
# Operators that allocate and write nothing.
ALLOCATE = ("aten::empty", "aten::new_empty")


class OperatorBytes(TorchDispatchMode):
    """Context that counts ``bytes``: what every operator reads and writes once."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view and not operation.name().startswith(ALLOCATE):
            for tensor in tree_leaves((args, kwargs, result)):
                if isinstance(tensor, torch.Tensor):
                    self.bytes += tensor.numel() * tensor.element_size()
        return result


def operator_bytes(work):
    with OperatorBytes() as counting:
        work()
    return counting.bytes


def least_bytes(backbone, size, batch, precision, weights):
    """Bytes of ``least`` (above) of a training step; ``weights``: bytes of all weights in float32."""
    kept = footprint(backbone, size).kept * batch / (2 if precision == "bfloat16" else 1)
    return 2 * kept + 5 * weights + images_bytes(size, batch)


def images_bytes(size, batch):
    """Bytes of a batch of float32 images."""
    return 12 * batch * size**2


def profiled(work, device):
    """[(name, begin, end)] of what the device ran in ``work``, in microseconds.

    On a CPU these are operators that no other operator called.
    """
    on_gpu = device.type == "cuda"
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.CUDA] if on_gpu else [activity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as found:
        work()
        synchronise(device)
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    return [
        (event.name, event.time_range.start, event.time_range.end)
        for event in found.events()
        if event.device_type == kind
        and not event.is_user_annotation
        and (on_gpu or event.cpu_parent is None)
    ]


def idle_share(events):
    """Share of the time from the first to the last event in which none runs."""
    events = sorted((begin, end) for _, begin, end in events)
    busy, until = 0.0, events[0][0]
    for begin, end in events:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    whole = until - events[0][0]
    return 1 - busy / whole if whole else 0.0


def shares(events):
    """[(name, share of the time of all events, number)], the largest first."""
    times = {}
    for name, begin, end in events:
        times.setdefault(name, []).append(end - begin)
    whole = sum(map(sum, times.values()))
    found = [(name, sum(values) / whole, len(values)) for name, values in times.items()]
    return sorted(found, key=lambda one: -one[1])


def training(setting, device, backbone):
    """What `measured` needs of a training step."""
    precision = setting.precision(device)
    trainer = new_trainer(base_recipe(setting, backbone, "today", precision))
    batches = batches_of(trainer, 1)
    counted = operator_bytes(partial(epoch_of, trainer, batches))
    epoch = graphed(trainer)
    weights = sum(p.nbytes for p in trainer.model.parameters())
    return {
        "step": partial(epoch, batches),
        "images": setting.batch,
        "operators": counted,
        "least": least_bytes(backbone, setting.size, setting.batch, precision, weights),
        "operations": setting.batch * operations_per_image(backbone, setting.size),
    }


def embedding(setting, device, backbone):
    """What `measured` needs of embedding a batch."""
    precision = setting.precision(device)
    trainer = new_trainer(base_recipe(setting, backbone, "today", precision))
    count = images_at_a_time(device, setting.size)
    step = partial(embed, trainer.model, trainer.images, torch.arange(count) % 64, precision)
    weights = sum(p.nbytes for p in trainer.model.parameters())
    return {
        "step": step,
        "images": count,
        "operators": operator_bytes(step),
        # No gradients: pixels and weights are read.
        "least": weights + images_bytes(setting.size, count) / 4,
        # A third of a training step's.
        "operations": count * operations_per_image(backbone, setting.size) / 3,
    }


def simclr(setting, device, backbone):
    """What `measured` needs of a SimCLR step with its augmentation."""
    dataset, pack, _ = setting.data()
    rows = dataset.images("train")
    rows = rows[: setting.simclr_batch]
    precision = setting.precision(device)
    recipe = simclr_recipe(setting).changed(precision=precision, backbone=backbone)
    trainer = Trainer(recipe, pack, rows, dataset.labels[rows], dataset.num_seen)
    weights, views = sum(p.nbytes for p in trainer.model.parameters()), 2 * len(rows)

    def step():
        return epoch_of(trainer, trainer.batches(1))

    # Operators in a replayed graph cannot be counted.
    replayed, trainer.trained_model = trainer.trained_model, trainer.model
    counted = operator_bytes(step)
    trainer.trained_model = replayed
    return {
        "step": step,
        "images": len(rows),
        "operators": counted,
        "least": least_bytes(backbone, setting.size, views, precision, weights),
        "operations": views * operations_per_image(backbone, setting.size),
    }


def profile(setting, report):
    """The part ``profile``."""
    device = setting.torch_device()
    bandwidth = peak_bandwidth(device, 16 if setting.small else 4096)
    rate = matrix_rate(device) if device.type == "cuda" else None
    report.say(f"a large copy moves {bandwidth / 1e9:.0f} GB/s, read and written")
    if rate:
        report.say(f"products of bfloat16 matrices: {rate / 1e12:.0f} TFLOP/s")
    report.say(__doc__.split("\n\n", 1)[1].strip())
    kinds = {"training step": training, "embedding of a batch": embedding}
    works = [(name, one, of) for one in setting.backbones for name, of in kinds.items()]
    works.append(("SimCLR step", setting.backbones[0], simclr))
    for name, backbone, of in works:
        if setting.left() <= 0:
            report.say(f"left out for lack of time: {name} of {backbone}")
            continue
        with report.attempt(f"{name}, {backbone}"):
            measured(setting, report, device, f"{name}, {backbone}", of(setting, device, backbone), bandwidth, rate)  # fmt: skip


def measured(setting, report, device, title, work, bandwidth, rate):
    """Rows and lines of one kind of step."""
    step = work["step"]
    step()
    seconds = statistics.median(seconds_of(step, device) for _ in range(setting.steps))
    report.say(f"\n{title}: {1000 * seconds:.2f} ms, {work['images'] / seconds:.0f} images/s")
    row = {"what": title, "milliseconds": 1000 * seconds}
    for kind in ("operators", "least"):
        row[f"{kind}_gb"] = work[kind] / 1e9
        row[f"{kind}_share_of_bandwidth"] = work[kind] / bandwidth / seconds
        report.say(
            f"  {kind}: {work[kind] / 1e9:.2f} GB, {1000 * work[kind] / bandwidth:.2f} ms at the copy's "
            f"bandwidth: {row[f'{kind}_share_of_bandwidth']:.0%} of the step"
        )
    if rate:
        row["share_of_matrix_rate"] = work["operations"] / rate / seconds
        report.say(f"  arithmetic: {row['share_of_matrix_rate']:.0%} of the matrix rate")

    def several():
        for _ in range(setting.steps):
            step()

    events = profiled(several, device)
    if not events:
        report.row(**row)
        raise RuntimeError("the profiler recorded nothing that the device ran")
    row["idle_share"] = idle_share(events)
    report.say(f"  nothing runs in {row['idle_share']:.1%} of the profiled time")
    report.row(**row)
    for name, share, count in shares(events)[:TOP]:
        report.row(what=title, kernel=name, share=share, times_a_step=count / setting.steps)
        report.say(f"  {share:>6.1%} {count / setting.steps:>7.1f} a step  {name[:90]}")
