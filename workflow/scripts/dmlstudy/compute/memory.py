"""How much of a GPU's memory a training needs. Reckoned, without torch; deliberately on the large side."""

from dmlstudy.core import source_code

MB = 2**20
# What a training step keeps of an image of 224 × 224 pixels, and of the weights, in MB (counted by
# torch.autograd.graph.saved_tensors_hooks, the larger of float32 and bfloat16).
PER_IMAGE = {"resnet18": 22, "resnet50": 83}
WEIGHTS = {"resnet18": 43, "resnet50": 90}
# What embedding a batch takes, in MB (the largest sum of live tensors of a forward pass in float32 is 6.7 and
# 10.6 MB for an image of 224 × 224 pixels; batches take the same memory at any size).
EMBEDDING = {"resnet18": 1800, "resnet50": 2800}
# CUDA itself, its libraries and what they work in, FAISS too.
CONTEXT = 1500
# Gradients of activations and workspaces come on top of what is kept.
BESIDE = 1.5


def activation_megabytes(recipe):
    """MB of activations and their gradients in a training step, on a CPU as well."""
    views = source_code.constant("augmentation", recipe.augmentation["kind"], "VIEWS")
    pictures = recipe.batch_size * views * (recipe.image_size / 224) ** 2
    return BESIDE * PER_IMAGE[recipe.backbone] * pictures


def graph_bytes(recipe):
    """Bytes that CUDA graphs of a step keep: an epoch's last batch and embedding need theirs all the same."""
    return int(activation_megabytes(recipe) * MB) if recipe.cuda_graphs else 0


def working_bytes(recipe):
    """Bytes that training a recipe needs beside packs and graphs: weights, optimizer, activations."""
    arch = recipe.backbone
    activations = max(activation_megabytes(recipe), EMBEDDING[arch])
    # Weights, their gradients, and up to two moments of each.
    megabytes = activations + 4 * WEIGHTS[arch] + CONTEXT
    return int(megabytes * MB)


def needed_megabytes(recipe, *packs):
    """MB that a training job asks of a card, with its packs (sizes in bytes) in its memory."""
    return -(-(working_bytes(recipe) + graph_bytes(recipe) + sum(packs)) // MB)
