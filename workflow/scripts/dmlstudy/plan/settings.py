"""The configuration as types: every key with its type, range, default and meaning.

The schema for editors (workflow/schemas/config.schema.yaml) and the reference of keys
(config/README.md) are written from here by workflow/scripts/write_reference.py.
"""

from inspect import getdoc
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, StringConstraints, model_serializer

from dmlstudy.plan.dataset_settings import Dataset, OtherDataset
from dmlstudy.plan.evaluation_settings import Evaluation
from dmlstudy.plan.protocol_settings import Protocol
from dmlstudy.plan.published_settings import Published
from dmlstudy.plan.setting_types import (
    Folder,
    LocalFile,
    Name,
    Piece,
    Seed,
    Strict,
    Text,
    Weights,
    different,
    number,
    whole,
)


class Entry(Strict):
    """A recipe that says only how it differs: of an experiment, or of a trained initializer."""

    like: Text = Field(None, description="The experiment that this one differs from.")
    block: Literal["published", "tuned", "own", "foundation"] = Field(
        None,
        description="Experiments only: block of the study's table in which it stands. `published`: one of "
        "the study's own; it is not inherited. `foundation`: it is only compared with what starts from "
        "the same weights. Default: that of the experiment that it is like if that is `tuned` or "
        "`foundation`, else `own`.",
    )
    selection: dict[Text, Annotated[list[Any], MinLen(1)]] = Field(
        None,
        description="Experiments only: dotted keys of the recipe, each with the values to try, such as "
        "`{optimizer.lr: [0.01, 0.1], loss.scale: [16, 64]}`. Every combination is a candidate; the best "
        "one's values become the experiment's. Inherited as a whole; `{}` selects nothing.",
    )
    unsourced: different(Text) = Field(
        None,
        description="Experiments only: keys of the recipe whose values have neither a source nor a "
        "selection. The tables say so. Inherited.",
    )
    backbone: Text = Field(
        None,
        description="The network: `resnet18`, `resnet50`, `torchvision/NAME` or `timm/NAME`.",
    )
    initializer: Text = Field(None, description="Where the backbone's weights come from.")
    frozen_batchnorm: bool = Field(
        None,
        description="Every BatchNorm of the backbone keeps its statistics and affine parameters. "
        "Default: false.",
    )
    backbone_trains: bool = Field(
        None,
        description="Experiments only: `false` trains head and loss alone, in seconds, on features of the "
        "unchanged backbone, computed once with the test transform. Default: true.",
    )
    head: Piece = Field(None, description="From pooled features to the embedding.")
    loss: Piece = Field(None, description="What the training minimises.")
    augmentation: Piece = Field(
        None, description="How training and test images are cut. Default: `{kind: none}`."
    )
    optimizer: Piece = Field(None, description="How weights are updated.")
    schedule: Piece = Field(
        None, description="How the learning rate changes over epochs. Default: `{kind: constant}`."
    )
    loss_lr: number(Gt(0), Le(1000)) | None = Field(
        None,
        description="Learning rate of the loss's own weights (proxies, class weights); null for the "
        "optimizer's.",
    )
    backbone_lr: number(Gt(0), Le(1000)) | None = Field(
        None,
        description="Learning rate of the backbone; null for the optimizer's, which the head always has.",
    )
    clip_gradients: number(Gt(0)) | None = Field(
        None,
        description="Largest norm of the gradient of all weights together, in each step; null for any. "
        "Default: null.",
    )
    trained_parts: Piece = Field(
        None,
        description="Which weights of the backbone train. Head and loss always do. Default: `{kind: all}`.",
    )
    epochs: whole(Ge(0)) = Field(None, description="Default: `protocol.epochs`.")
    batch_size: whole(Ge(2)) = Field(None, description="Default: `protocol.batch_size`.")
    image_size: whole(Ge(16), Le(4096)) = Field(
        None, description="Side in pixels of its images. Default: `protocol.image_size`."
    )
    samples_per_class: whole(Ge(1)) | None = Field(
        None, description="Default: `protocol.samples_per_class`."
    )
    eval_every: whole(Ge(1)) = Field(
        None, description="Experiments only. Default: `protocol.eval_every`."
    )

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, serialize):
        """Keys that are not given are inherited: they must not look as if they were given."""
        return {
            key: value for key, value in serialize(self).items() if key in self.model_fields_set
        }


class Initializer(Strict):
    """Where a backbone's weights come from before a run."""

    kind: Literal["scratch", "published", "file", "trained"] = Field(
        description="`scratch`: random weights; `published`: the backbone's own published weights; "
        "`file`: any file of weights; `trained`: a recipe, trained on training images of seen classes."
    )
    label: Text = Field(description="What tables and pages call it.")
    weights: dict[Text, Weights] = Field(
        {},
        description="`file`: backbone → where its weights are. `published`: backbone → where they are "
        "instead of at their publisher's; they must be the same. Formats: PyTorch and safetensors; bare, "
        "or in a container such as `state_dict`; names with or without a prefix such as `module.`. A "
        "classifier's weights are left out.",
    )
    dataset: Text = Field(
        "study", description="`trained` only: `study`, or one of `other_datasets`."
    )
    seed: Seed | None = Field(
        None, description="`trained` only: a fixed seed; null follows the run's seed."
    )
    recipe: Entry | None = Field(
        None, description="`trained` only: a recipe, with the keys of an experiment."
    )
    backbones: dict[Text, Entry] = Field(
        {},
        description="`trained` only: backbone → what its recipe changes. Deep networks may need "
        "smaller steps.",
    )


class Untrained(Strict):
    """Rows that are not trained: what the initializer's own features give."""

    backbones: different(Text) = Field(
        ["resnet18", "resnet50"], description="A row for each of these."
    )
    initializer: Text = Field("imagenet", description="The initializer whose features are tested.")
    other_initializers: dict[Text, Text] = Field(
        {},
        description="Backbones whose features come from another initializer: backbone → initializer.",
    )
    augmentation: Piece = Field(
        {"kind": "crop_flip"}, description="How their images are cut, as in a recipe."
    )


class Pretraining(Strict):
    """What is known of the weights that a backbone starts from."""

    label: Text = Field(description="What tables and pages call these weights.")
    license: Text = Field(description="Licence of the weights.")
    data: Text = Field(description="What they were trained on, and with which labels.")
    test_images: Literal["no", "yes", "likely", "unknown"] = Field(
        "unknown",
        description="Whether that data holds test photographs of this study, or other photographs of "
        "their classes with labels.",
    )
    remark: Text | None = Field(None, description="What is known about it, in a sentence.")
    source: Text = Field(description="Where this was read.")


class Index(Strict):
    """The gallery of a run as an index, to name photographs that are not in the study."""

    accepted_share: number(Gt(0), Le(1)) = Field(
        0.95,
        description="Wanted share of photographs of enrolled classes that are not called *unknown*.",
    )
    threshold: Literal["held_out_classes", "own_images"] = Field(
        "held_out_classes",
        description="Images that it is chosen on: of classes that the model was not trained on "
        "(all-classes models need their limited ones), or all of the index, which accepts too few.",
    )


class Explanation(Strict):
    """Heat maps (EmbeddingCAM) of every experiment's models. A change trains nothing."""

    queries: whole(Ge(1)) = Field(
        24,
        description="Queries per experiment with heat maps; errors and unseen classes first.",
    )
    evaluated_queries: whole(Ge(0)) = Field(
        200, description="Queries whose heat maps are compared with their bounding boxes."
    )
    seed: Seed = Field(42, description="Seed of both choices.")


class Tracking(Strict):
    """Weights & Biases: a run per experiment, seed and draw of unseen classes, from finished files."""

    mode: Literal["offline", "online", "disabled"] = Field(
        "offline",
        description="`offline` writes folders that can be sent later and needs no account; `online` "
        "sends them, and live curves of trainings, with the key in `WANDB_API_KEY`; `disabled` does "
        "nothing.",
    )
    # The pattern is W&B's own rule.
    project: Annotated[str, StringConstraints(pattern=r"^[^/\\#?%:\x00-\x1f]{1,128}$")] = Field(
        "DML-for-Classification", description="Project in Weights & Biases."
    )
    entity: Text | None = Field(
        None, description="User or team in Weights & Biases; null for the key's own."
    )


class Configuration(Strict):
    """Configuration of the study. Mistakes are refused before the first job."""

    results_dir: Folder = Field(
        "results",
        description="Folder for everything that is made; `~` is the home folder. It belongs to one data "
        "set and split: use another one for other data.",
    )
    dataset: Dataset = Field(description=getdoc(Dataset))
    other_datasets: dict[Name, OtherDataset] = Field(
        {}, description="Further data sets, for initializers only: name → the same keys."
    )
    protocol: Protocol = Field(Protocol(), description=getdoc(Protocol))
    evaluation: Evaluation = Field(Evaluation(), description=getdoc(Evaluation))
    initializers: Annotated[dict[Name, Initializer], MinLen(1)] = Field(
        description="Where a backbone's weights come from before a run: name → how to get them."
    )
    substitute_initializers: dict[Text, Text] = Field(
        {},
        description="Initializers to use in place of others: name → name. The demo has no ImageNet "
        "weights.",
    )
    experiments: Annotated[dict[Name, Entry], MinLen(1)] = Field(
        description="Name → how the experiment differs from the one that it is `like`."
    )
    only: different(Text, least=1) | None = Field(
        None, description="Names of the experiments to run; null for all."
    )
    untrained: Untrained = Field(Untrained(), description=getdoc(Untrained))
    pretraining: dict[Text, Pretraining] = Field(
        {},
        description="Foundation models: backbone → what is known of its weights. Rows without training of "
        "these backbones stand in the block `foundation`, and `comparison/pretraining.csv` lists it all.",
    )
    baseline: Text = Field(description="The experiment that all others are compared with.")
    published: Published | None = Field(None, description=getdoc(Published))
    index: Index = Field(Index(), description=getdoc(Index))
    explanation: Explanation = Field(Explanation(), description=getdoc(Explanation))
    tracking: Tracking = Field(Tracking(), description=getdoc(Tracking))
    learning_rate_scale: dict[Text, number(Gt(0))] = Field(
        {},
        description="Factor on every learning rate, per optimizer. The demo uses it, because it trains "
        "only few steps.",
    )
    checkpoint_every: whole(Ge(1)) = Field(
        1,
        description="Epochs between stored states of a training, which continues from there after an "
        "interruption. It changes no result. If an epoch takes less than a second, a larger number saves "
        "time.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="`auto` uses a GPU if there is one; `cpu` never uses one; `cuda` stops with a message if "
        "there is none.",
    )
    container: LocalFile = Field(
        "containers/dml-cpu.sif",
        description="Image for `--software-deployment-method apptainer`: a file, relative to the project "
        "(to the working directory if the workflow is hosted; `~` is the home folder), or an address such "
        "as `docker://…`.",
    )
    conda: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="Environment for `--software-deployment-method conda`: `workflow/envs/cpu.yaml`, or "
        "`workflow/envs/gpu.yaml` for NVIDIA GPUs.",
    )
