"""What planning must know of backbones, as JSON: features, the images that they expect, problems."""

import argparse
import json

from dmlstudy.compute.backbones.backbone import batchnorms
from dmlstudy.compute.embedding_model import build_backbone
from dmlstudy.compute.memory import footprint
from dmlstudy.compute.trained_parts.lora import linear_layers
from dmlstudy.compute.trained_parts.normalisation import norm_weights
from dmlstudy.core import console, registry
from dmlstudy.core.files import StudyError


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, required=True, help="side in pixels")
    parser.add_argument("--backbones", nargs="+", required=True, help="names, as in a recipe")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        print(json.dumps({name: described(name, args.image_size) for name in args.backbones}))

    console.run(work, args.log)


def described(name, image_size):
    """Facts of a backbone, or {"problem": a sentence} if it cannot be used.

    ``unpublished`` is None, or a sentence that says that nobody publishes weights of it.
    """
    import torch

    try:
        # Only shapes are needed.
        with torch.device("meta"):
            backbone = build_backbone(name, image_size)
        # A training step on shapes alone: what fails here would fail in every job.
        needs = footprint(name, image_size)
    except StudyError as error:
        return {"problem": str(error)}
    except Exception as error:
        # Libraries raise whatever they like. One backbone must not hide what is known of the others.
        return {"problem": f"{name} cannot be used: {type(error).__name__}: {error}"}
    try:
        registry.backbone_module(name).published(name)
        without = None
    except StudyError as error:
        without = str(error)
    return {
        "feature_dim": backbone.feature_dim,
        "batchnorm": bool(batchnorms(backbone.module)),
        "parts": {
            "blocks": len(backbone.blocks),
            "normalisation": bool(norm_weights(backbone.module)),
            "lora": bool(linear_layers(backbone.module, "attention")),
        },
        "footprint": needs._asdict(),
        "unpublished": without,
        **backbone.preprocessing._asdict(),
    }


if __name__ == "__main__":
    main()
