"""Types of which the configuration is made: numbers with a range, names, seeds, sources."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
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
