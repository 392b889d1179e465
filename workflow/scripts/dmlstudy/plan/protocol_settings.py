"""Types of the keys below ``protocol``: what all runs have in common."""

from inspect import getdoc
from typing import Literal

from annotated_types import Ge, Le
from pydantic import Field

from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.setting_types import (
    GroupPattern,
    Seed,
    Share,
    Strict,
    Text,
    different,
    number,
    whole,
)


class Selection(Strict):
    """How the values that experiments list under `selection` are chosen.

    Only training images of seen classes are used, never a test image or an unseen class.
    """

    epochs: whole(Ge(1)) | None = Field(
        None, description="Epochs of every candidate; null for as many as the experiment trains."
    )
    validation_share: Share = Field(
        0.2, description="Share of the training images of each trained class that are queries."
    )
    held_out_share: Share = Field(
        0.2, description="Share of the seen classes that no candidate is trained on."
    )
    seed: Seed | None = Field(
        None,
        description="Seed of what is held out and of the candidates' trainings; null for the first of "
        "`protocol.seeds`.",
    )


class GroupBy(Strict):
    """What photographs that belong together share: one bird, one product, one burst. `null` for no groups."""

    column: Text | None = Field(
        None,
        description="`csv` only: a column of the data set's table. Photographs with the same text in it "
        "are a group; an empty cell is a group of its own.",
    )
    pattern: GroupPattern | None = Field(
        None,
        description="In place of a column: a regular expression with one or more groups in parentheses, "
        "searched in the path of each photograph below the data set's folder. Photographs with the same "
        "text in them are a group; one that does not match is a group of its own.",
    )


class Protocol(Strict):
    """What all runs have in common."""

    image_size: whole(Ge(16), Le(4096)) = Field(
        224,
        description="Side in pixels of the images that models see, unless an experiment sets its own.",
    )
    resize_margin: number(Ge(1), Le(4)) = Field(
        1.1,
        description="With augmentation, training images are resized to `image_size` times this before "
        "the random crop.",
    )
    split: Literal["stratified", "official"] = Field(
        "stratified",
        description="`stratified` by class, or `official`: the data set's own (of a published data set "
        "that has one, or a table's `split` column).",
    )
    test_share: Share = Field(
        0.2, description="Share of the images of each class that are queries (stratified split)."
    )
    split_seed: Seed = Field(42, description="Seed of the split; seeds of runs never change it.")
    duplicates: Literal["keep", "together", "drop"] = Field(
        "keep",
        description="Photographs that the data set holds several times. `keep`: the split ignores it, as "
        "published. `together`: copies stand in one part. `drop`: one of each set of copies is used; of "
        "copies in different classes, none.",
    )
    near_duplicates: whole(Ge(0), Le(32)) | None = Field(
        10,
        description="Photographs are near duplicates if at most so many of the 128 bits of their "
        "perceptual hashes differ: another size, compression or brightness, or a mirror image. null: only "
        "files with the same bytes are copies. The check-up always uses it, the split if `duplicates` is not `keep`.",
    )
    group_by: GroupBy | None = Field(None, description=getdoc(GroupBy))
    unseen_classes: whole(Ge(1)) = Field(
        20, description="How many of the last classes the limited models never see."
    )
    unseen_draws: whole(Ge(0), Le(1000)) = Field(
        0,
        description="Random draws of as many unseen classes, besides the last ones. Each trains one "
        "more limited model per experiment, and tables give the mean.",
    )
    epochs: whole(Ge(0)) = Field(
        100, description="Epochs of experiments that do not set their own."
    )
    batch_size: whole(Ge(2)) = Field(
        128, description="Images per batch of experiments that do not set their own."
    )
    samples_per_class: whole(Ge(1)) | None = Field(
        None,
        description="Images per class in a batch; must divide the batch size. null for a plain shuffle, "
        "as published.",
    )
    eval_every: whole(Ge(1)) = Field(
        1,
        description="The test curve gets a point every so many epochs, and at the last one, unless an "
        "experiment sets its own.",
    )
    seeds: different(Seed, least=1) = Field(
        [42],
        description="Seeds of the runs. Several give a mean and a spread; each trains everything once "
        "more.",
    )
    selection: Selection = Field(Selection(), description=getdoc(Selection))
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="`auto` is bfloat16 where the hardware has it natively, else float32. Elsewhere "
        "torch emulates bfloat16: many times slower, with coarser gradients.",
    )
    cuda_graphs: bool = Field(
        Recipe.cuda_graphs,
        description="On a GPU, train whole batches through CUDA graphs if memory suffices. The weights "
        "are the same to the bit. Graphs keep as much memory as a step takes. A change retrains "
        "everything.",
    )
    compute_threads: whole(Ge(1), Le(1024)) = Field(
        4,
        description="Threads of a job that computes on the CPU. Sums depend on it, so it does not "
        "follow the number of cores.",
    )
