"""Speed of a training step on small images with and without the special convolutions for small maps.

    .venv/bin/python benchmarks/small_maps.py [--size 32] [--batch 64] [--jobs 2] [--precision bfloat16]

Ours skips kernel taps that only see padding, and computes small convolutions as matrix products. Training
steps of a ResNet with torchvision's convolutions and with ours alternate, in as many parallel processes as
the demo has (they compete for memory bandwidth); medians.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))


def measure(backbone, size, batch, precision, repetitions):
    """Median seconds of a training step: (plain, ours)."""
    import torch

    from dmlstudy.compute.devices import autocast
    from dmlstudy.compute.embedding_model import build_backbone
    from dmlstudy.compute.small_maps import trim_to

    torch.set_num_threads(1)
    arms = []
    for trimmed in (False, True):
        torch.manual_seed(0)
        network = build_backbone(backbone, size).module
        if trimmed:
            trim_to(network, size)
        network = network.to(memory_format=torch.channels_last).train()
        arms.append((network, torch.optim.SGD(network.parameters(), lr=0.01, fused=True), []))
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    for repetition in range(repetitions + 2):
        for network, optimizer, seconds in arms:
            begun = time.perf_counter()
            optimizer.zero_grad()
            with autocast(torch.device("cpu"), precision):
                features = network(images)
            features.float().square().mean().backward()
            optimizer.step()
            if repetition >= 2:
                seconds.append(time.perf_counter() - begun)
    return [statistics.median(seconds) for _, _, seconds in arms]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=("resnet18", "resnet50"), default="resnet18")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=15)
    args = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        work = (args.backbone, args.size, args.batch, args.precision, args.repetitions)
        results = pool.starmap(measure, [work] * args.jobs, chunksize=1)
    for plain, ours in results:
        print(
            f"{args.backbone}, {args.precision}, {args.size} px, batch {args.batch}, one of {args.jobs} jobs: "
            f"{args.batch / plain:.0f} images/s plain, {args.batch / ours:.0f} ours, {plain / ours:.2f} ×"
        )


if __name__ == "__main__":
    main()
