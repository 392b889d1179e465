"""Types of which the configuration is made: numbers with a range, names, seeds, sources."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)


def _whole(value):
    """``42.0`` is the whole number 42."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _source(value):
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("must be an address or a local path, or a list of addresses")
    return value


def whole(*bounds):
    """Type of a whole number within bounds."""
    return Annotated[int, *bounds, BeforeValidator(_whole)]


def number(*bounds):
    """Type of a finite number within bounds."""
    return Annotated[float, *bounds, AllowInfNan(False)]


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$")]
# A random seed that every library takes: NumPy's RandomState ends at 2**32 - 1.
Seed = whole(Ge(0), Le(2**32 - 1))
Share = number(Gt(0), Lt(1))
Source = Annotated[
    Any,
    BeforeValidator(_source),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]
Piece = dict[str, Any]


class Strict(BaseModel):
    """A mapping with known keys only. Texts are not taken for numbers, nor numbers for texts."""

    model_config = ConfigDict(extra="forbid", strict=True)


class WeightsFile(Strict):
    """A file of weights. A path or address alone is short for a mapping with `source`."""

    source: Source | None = Field(
        None,
        description="A local file, an address, or a list of addresses that are tried in order. In place "
        "of the hub's, also a folder that holds the hub's file.",
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None,
        description="SHA-256 of the file. A `file` at an address needs it; torchvision's and the hub's "
        "are known.",
    )
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        None,
        description="`published` weights of timm only: commit of the hub's repository. Default: the "
        "newest when they are downloaded, which is recorded beside them.",
    )


def _weights(value):
    return {"source": value} if isinstance(value, (str, list)) else value


Weights = Annotated[
    WeightsFile, BeforeValidator(_weights, json_schema_input_type=Source | WeightsFile)
]
