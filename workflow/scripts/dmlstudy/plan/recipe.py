"""What one training needs to know, as one typed value. Without torch, and without the study around it."""

import dataclasses
import json
from dataclasses import dataclass

from dmlstudy.core.canonical import canonical, canonical_json
from dmlstudy.core.files import StudyError


@dataclass(frozen=True)
class Recipe:
    """A complete recipe: how one model is trained, whatever images it is trained on.

    ``head``, ``loss``, ``augmentation``, ``optimizer``, ``schedule`` and ``trained_parts`` are pieces:
    ``{"kind": name, parameter: value, …}`` with every parameter given. ``loss_lr``: learning rate of the
    loss's own weights, ``backbone_lr``: of the backbone's; None: the optimizer's. ``clip_gradients``:
    largest norm of the gradient of all weights together; None: any. ``samples_per_class``: images per
    class in a batch; None: a plain shuffle. ``image_size``: side in pixels. ``precision``: auto, bfloat16 or float32. ``device``:
    auto, cpu or cuda. ``eval_every``: the test curve gets a point every so many epochs; None for
    trainings without one. ``backbone_trains``: False if only the head and the loss train, on stored
    features.

    Fields with a default are left out of `as_dict` where they have it. So a field that is added
    later, with a default, retrains nothing.
    """

    backbone: str
    frozen_batchnorm: bool
    head: dict
    loss: dict
    augmentation: dict
    optimizer: dict
    schedule: dict
    loss_lr: float | None
    epochs: int
    batch_size: int
    samples_per_class: int | None
    image_size: int
    precision: str
    compute_threads: int
    device: str
    seed: int
    eval_every: int | None = None
    cuda_graphs: bool = True
    backbone_trains: bool = True
    trained_parts: dict = dataclasses.field(default_factory=lambda: {"kind": "all"})
    backbone_lr: float | None = None
    clip_gradients: float | None = None

    @classmethod
    def defaults(cls):
        """{field: default} of the fields that have one, which `as_dict` may leave out."""
        found = {}
        for field in dataclasses.fields(cls):
            if field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
            elif field.default is not dataclasses.MISSING:
                found[field.name] = field.default
        return found

    @classmethod
    def from_dict(cls, values, source="recipe"):
        """The recipe of a dictionary; StudyError, naming ``source``, for missing or unknown keys."""
        fields, defaults = [field.name for field in dataclasses.fields(cls)], cls.defaults()
        for key in values:
            if key not in fields:
                raise StudyError(f"{source}: unknown key {key!r}; known: {', '.join(fields)}")
        for name in fields:
            if name not in values and name not in defaults:
                raise StudyError(f"{source}: {name} is missing")
        return cls(**values)

    def as_dict(self):
        """Plain values in canonical form, without what has its default: equal recipes, equal text."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        defaults = self.defaults()
        return canonical(
            {
                name: value
                for name, value in values.items()
                if name not in defaults or value != defaults[name]
            }
        )

    def as_json(self):
        return canonical_json(self.as_dict())

    def changed(self, **changes):
        """A copy with other values of some fields."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class FeatureRecipe:
    """What stored features depend on, beside weights and photographs; fields as of `Recipe`."""

    backbone: str
    image_size: int
    precision: str
    compute_threads: int
    device: str

    def as_json(self):
        return canonical_json(dataclasses.asdict(self))


def recipe_option(text):
    """A command line's ``--recipe`` as a dictionary, which a selection may still complete."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values
