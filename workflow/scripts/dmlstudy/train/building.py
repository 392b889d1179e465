"""Model, loss, optimizer and schedule of a recipe."""

import torch

from dmlstudy.compute.devices import derived_seed
from dmlstudy.compute.embedding_model import CPU, EmbeddingModel, build_backbone, trim_small_maps
from dmlstudy.compute.weight_files import load_backbone_weights
from dmlstudy.core import registry


def build_piece(piece, values, *arguments):
    """Build one piece of a recipe: ``values`` is ``{"kind": name, parameter: value, …}``."""
    parameters = {key: value for key, value in values.items() if key != "kind"}
    return registry.load(piece, values["kind"])(*arguments, **parameters)


def build_model(recipe, num_classes, seed, weights=None, device=CPU):
    """Model and loss of a `Recipe`, initialised from ``seed`` and, if given, a file of backbone weights.

    Returns (EmbeddingModel, loss module), on the CPU; ``device``: where the model will train.
    """
    torch.manual_seed(derived_seed(seed, "initialisation"))
    backbone = build_backbone(recipe.backbone, recipe.image_size)
    if weights:
        load_backbone_weights(backbone, weights)
    trim_small_maps(backbone.module, recipe.image_size, device)
    head = build_piece("head", recipe.head, backbone.feature_dim)
    model = EmbeddingModel(backbone, head, recipe.frozen_batchnorm)
    with torch.no_grad():
        embedding_dim = head.eval()(torch.zeros(1, backbone.feature_dim)).shape[1]
    loss = build_piece("loss", recipe.loss, num_classes, embedding_dim)
    # Last: what it draws must not change how head and loss start.
    model.still += build_piece("trained_parts", recipe.trained_parts, backbone)
    return model.train(), loss


def build_optimizer(recipe, model, loss):
    """Optimizer over the model's weights and the loss's (proxies, class weights), and its schedule.

    The loss's weights train at ``loss_lr``, the backbone's at ``backbone_lr``, or at the optimizer's
    ``lr`` where these are null.
    """
    if recipe.backbone_lr is None:
        parts = [(model, None)]
    else:
        parts = [(model.backbone, recipe.backbone_lr), (model.head, None)]
    groups = []
    for module, lr in (*parts, (loss, recipe.loss_lr)):
        own = [p for p in module.parameters() if p.requires_grad]
        if own:
            groups.append({"params": own} if lr is None else {"params": own, "lr": lr})
    optimizer = build_piece("optimizer", recipe.optimizer, groups)
    schedule = build_piece("schedule", recipe.schedule, optimizer, recipe.epochs)
    return optimizer, schedule
