"""Candidates for a faster evaluation epoch, beside embedding and search of today.

None of them is in the library. All embed the same images with the same weights through the library's own
loop.
"""

import copy
import statistics
from functools import partial

import numpy as np
import torch
from gpu_setting import seconds_of
from gpu_steps import TODAY, compiled, stands_in
from measuring import in_turn, ratio
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from dmlstudy.compute.devices import autocast
from dmlstudy.compute.embedding import embed, images_at_a_time, normalised
from dmlstudy.evaluate.metrics import precision_at_1
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.train.building import build_model
from dmlstudy.train.trainer import Trainer

# Queries whose similarities are in memory at a time.
QUERIES = 4096


class GraphedEmbedding(torch.nn.Module):
    """``model`` as a CUDA graph for batches with the shape of ``sample``; other batches run as usual.

    Without CUDA the model runs in the place of the graph.
    """

    def __init__(self, model, sample, precision):
        super().__init__()
        self.model, self.images = model.eval(), sample.clone()
        device = sample.device

        def run():
            # No cache: it would end with this context, and its tensors would be used again.
            with autocast(device, precision, cache=False):
                self.found = model(self.images)

        with torch.inference_mode():
            self.replay = run
            if device.type == "cuda":
                stream = torch.cuda.Stream(device)
                stream.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(stream):
                    for _ in range(3):
                        run()
                torch.cuda.current_stream(device).wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    run()
                self.replay = graph.replay

    def forward(self, images):
        if images.shape != self.images.shape:
            return self.model(images)
        self.images.copy_(images)
        self.replay()
        # The next replay writes to the same memory.
        return self.found.clone()


def plain_model(trainer):
    """A copy of a trainer's model for evaluation, with convolutions as they are on a GPU.

    On a CPU small maps have other modules, in which nothing can be folded.
    """
    recipe, width = trainer.recipe, len(set(trainer.labels))
    model, _ = build_model(recipe, width, recipe.seed, device=torch.device("cuda"))
    model.load_state_dict(trainer.model.state_dict())
    return model.eval().to(trainer.device, memory_format=torch.channels_last)


def folded(model):
    """(copy whose BatchNorms are parts of the convolutions before them, how many BatchNorms are left)."""
    found = fuse(copy.deepcopy(model).eval())
    left = sum(isinstance(one, torch.nn.BatchNorm2d) for one in found.modules())
    return found.to(memory_format=torch.channels_last), left


def candidates(model, sample, precision):
    """{name: function that makes the model of a candidate}."""
    device = sample.device
    graph = partial(GraphedEmbedding, sample=sample, precision=precision)
    return {
        TODAY: lambda: model,
        "BatchNorm folded": lambda: folded(model)[0],
        "compiled": lambda: compiled(model, device),
        "CUDA graph": lambda: graph(model),
        "folded, CUDA graph": lambda: graph(folded(model)[0]),
        "folded, compiled, CUDA graph": lambda: graph(compiled(folded(model)[0], device)),
    }


def kept_on_device(queries, gallery):
    """Rows of the nearest gallery embeddings (n,), int64; both tensors (n, dim), (m, dim) stay on the device.

    Ties go to any of the rows, unlike in `nearest_neighbours`.
    """
    queries, gallery = (functional.normalize(one.float(), dim=1) for one in (queries, gallery))
    found = [(chunk @ gallery.T).argmax(dim=1) for chunk in queries.split(QUERIES)]
    return torch.cat(found)


def copied(queries, gallery, threads, on_gpu):
    """The same by the library: a copy to the host, then FAISS, on the card with ``on_gpu``."""
    found = nearest_neighbours(
        normalised(queries), normalised(gallery), threads=threads, on_gpu=on_gpu
    )
    return found[1][:, 0]


def accuracy(found, dataset, gallery, queries):
    """precision@1 of nearest rows."""
    classes = dataset.class_ids
    return precision_at_1(classes[gallery[found]] == classes[queries])


def embedding(setting, report):
    """The part ``embed``."""
    device = setting.torch_device()
    precision = setting.precision(device)
    dataset, train_pack, test_pack = setting.data()
    rows, queries = (dataset.images(part) for part in ("train", "test"))
    recipe = setting.recipe(precision=precision)
    trainer = Trainer(recipe, train_pack, rows, dataset.labels[rows], dataset.num_seen)
    # So that statistics of BatchNorm are not those that it begins with.
    trainer.train_epoch()
    images = trainer.images_of(test_pack)
    everything = np.concatenate([rows, queries])
    model = plain_model(trainer)
    del trainer
    sample_rows = torch.as_tensor(everything[: images_at_a_time(device, setting.size)])
    sample = images.normalise(images.centre(sample_rows))
    left = folded(model)[1]
    report.say(f"{precision}; {left} BatchNorms are left after folding")

    def embedded_by(one):
        return embed(one, images, everything, precision)

    def judged(found):
        nearest = copied(found[len(rows) :], found[: len(rows)], setting.threads, False)
        return normalised(found), accuracy(nearest, dataset, rows, queries)

    today = judged(embedded_by(model))
    for name, make in candidates(model, sample, precision).items():
        if setting.left() <= 0:
            report.say(f"left out for lack of time: {name} and what follows")
            break
        with report.attempt(name):
            made = make()
            values, precision_at = judged(embedded_by(made))
            arms = {
                one: partial(seconds_of, partial(embedded_by, which), device)
                for one, which in ((TODAY, model), (name, made))
            }
            seconds = in_turn(arms, setting.rounds)
            row = {
                "candidate": name,
                "images_per_second": len(everything) / statistics.median(seconds[name]),
                "times": ratio(seconds, TODAY, name),
                "greatest_difference": float(np.abs(values - today[0]).max()),
                "precision_at_1": precision_at,
                "same_precision_at_1": precision_at == today[1],
                "stand_in": stands_in(name, device, graphs="CUDA graph" in name),
            }
            report.row(**row)
            verdict = "equal" if row["same_precision_at_1"] else f"{today[1]:.4f} {TODAY}"
            report.say(
                f"{name:<30} {row['images_per_second']:>9.1f} images/s  {row['times']:.3f} × {TODAY}  "
                f"embeddings differ by {row['greatest_difference']:.1e}, precision@1 "
                f"{precision_at:.4f} ({verdict})"
            )
    search(setting, report, device, embedded_by(model), len(rows))


def search(setting, report, device, found, split):
    """Rows of the search: embeddings that stay on the device against a copy to the host."""
    gallery, asked = found[:split], found[split:]
    arms = {
        "copied, FAISS on the CPU": lambda: copied(asked, gallery, setting.threads, False),
        "kept on the device": lambda: kept_on_device(asked, gallery).cpu().numpy(),
    }
    import faiss

    if getattr(faiss, "get_num_gpus", lambda: 0)():
        arms["copied, FAISS on the card"] = lambda: copied(asked, gallery, setting.threads, True)
    else:
        report.say("FAISS has no GPU here: its search on the card is left out")
    expected = next(iter(arms.values()))()
    same = {name: float((arm() == expected).mean()) for name, arm in arms.items()}
    seconds = in_turn({name: partial(seconds_of, arm, device) for name, arm in arms.items()}, setting.rounds)  # fmt: skip
    for name, times in seconds.items():
        middle = statistics.median(times)
        report.row(candidate=f"search: {name}", seconds=middle, same_neighbours=same[name])
        report.say(f"search: {name:<26} {1000 * middle:>8.2f} ms, {same[name]:.1%} same neighbours")
