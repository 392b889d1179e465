"""Published figures that a configuration brings along, to judge its own by them."""

from typing import Annotated, Any

from annotated_types import Ge, MinLen
from pydantic import Field, StringConstraints

from dmlstudy.plan.setting_types import MD5, Share, Strict, Text, whole


class Figure(Strict):
    """A figure that others published."""

    experiment: Text = Field(description="The experiment that is compared with it.")
    metric: Text = Field(
        description="Name of the metric in `summary.csv`, such as `softmax_accuracy`."
    )
    value: Share = Field(description="The published value, as a share.")
    tolerance: Share = Field(
        description="The figure is reproduced if our interval reaches the value ± this."
    )
    source: Text = Field(description="Where it was published.")
    recipe: dict[Text, Any] = Field(
        {},
        description="What the source states of the training: dotted keys of the complete recipe, such as "
        "`{backbone: resnet50, optimizer.lr: 0.0001}`. There is no verdict if ours has other values.",
    )
    differs: Text | None = Field(
        None, description="How our training differs all the same, for the remark in the tables."
    )


class Published(Strict):
    """Figures of a protocol that others published.

    The tables give a verdict on them in place of those on the original study.
    """

    md5: Annotated[str, StringConstraints(pattern=MD5)] | None = Field(
        None, description="MD5 of the archive that was used; null for any data set."
    )
    size: Annotated[list[whole(Ge(1))], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Numbers of gallery images and queries; null for any."
    )
    protocol: dict[Text, Any] = Field(
        {}, description="Keys of `protocol` that must have these values."
    )
    figures: Annotated[list[Figure], MinLen(1)] = Field(
        description="The figures, the main one of each experiment first."
    )
