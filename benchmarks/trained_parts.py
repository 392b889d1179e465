"""What a training step costs when parts of a backbone train: time, kept activations, gradients and moments.

    .venv/bin/python benchmarks/trained_parts.py [--backbone timm/vit_small_patch16_224] [--size 96]

Steps of all arms alternate; medians. The obvious way of low-rank changes, "as a matrix", adds B A to W in
every step, so that the gradient of the whole matrix is computed.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

MB = 2**20


def arms(backbone, transformer):
    """{name: trained parts}."""
    found = {
        "all": {"kind": "all"},
        "last block": {"kind": "last_blocks", "blocks": 1},
        "last 2 blocks": {"kind": "last_blocks", "blocks": 2},
        "normalisation": {"kind": "normalisation"},
    }
    if transformer:
        found["lora"] = {"kind": "lora"}
        found["lora, attention"] = {"kind": "lora", "layers": "attention"}
        found["lora as a matrix"] = {"kind": "lora"}
    return found


class Arm:
    """A network, its optimizer, and what its steps took."""

    def __init__(self, name, parts, backbone, size):
        import torch
        from torch.nn.utils import parametrize

        from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone
        from dmlstudy.compute.trained_parts.low_rank import LowRankLinear
        from dmlstudy.train.building import build_piece

        torch.manual_seed(0)
        network = build_backbone(backbone, size)
        self.model = EmbeddingModel(network, torch.nn.Linear(network.feature_dim, 128))
        self.model.still += build_piece("trained_parts", parts, network)
        if name.endswith("as a matrix"):
            for key, layer in list(network.module.named_modules()):
                if isinstance(layer, LowRankLinear):
                    plain = layer.plain
                    parametrize.register_parametrization(plain, "weight", Change(layer))
                    network.module.set_submodule(key, plain)
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = sum(p.nbytes for p in trained)
        self.optimizer = torch.optim.AdamW(trained, fused=True)
        self.seconds, self.kept = [], 0

    def step(self, images):
        import torch

        saved = {}

        def save(tensor):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        begun = time.perf_counter()
        self.optimizer.zero_grad()
        own = {t.untyped_storage().data_ptr() for t in self.model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            embeddings = self.model(images)
        embeddings.square().mean().backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - begun)
        self.kept = sum(size for key, size in saved.items() if key not in own)


def Change(layer):
    """The low-rank change of a `LowRankLinear` as a parametrization of its plain layer's weight."""
    import torch

    class Added(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.scale = layer.down, layer.up, layer.scale

        def forward(self, weight):
            return weight + self.scale * (self.up @ self.down)

    return Added()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm/vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    import torch

    from dmlstudy.compute.embedding_model import build_backbone
    from dmlstudy.compute.trained_parts.lora import linear_layers

    torch.set_num_threads(args.threads)
    with torch.device("meta"):
        linear = linear_layers(build_backbone(args.backbone, args.size).module, "attention")
    built = {
        name: Arm(name, parts, args.backbone, args.size)
        for name, parts in arms(args.backbone, bool(linear)).items()
    }
    images = torch.randn(args.batch, 3, args.size, args.size)
    for _ in range(args.repetitions + 1):
        for arm in built.values():
            arm.step(images)
    whole = statistics.median(built["all"].seconds[1:])
    print(f"{args.backbone}, {args.size} px, batch {args.batch}, {args.threads} threads, float32")
    for name, arm in built.items():
        seconds = statistics.median(arm.seconds[1:])
        print(
            f"{name:>18}: {1000 * seconds:6.0f} ms a step ({seconds / whole:.2f} × all), "
            f"{arm.kept / MB:6.1f} MB kept, {3 * arm.trained / MB:6.1f} MB of gradients and moments"
        )


if __name__ == "__main__":
    main()
