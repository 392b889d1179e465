"""Draws a fine-grained data set of synthetic birds in the layout of CUB-200-2011.

Species are grouped into genera. The members of a genus share their build,
their base colours and most of their traits. Any two of them differ in only
two or three traits, so a model must look at these traits. Every image has its
own pose, light, background and occlusion.

Everything is derived from a seed: a species from (seed, its index, the size
of a genus), an image from (seed, the index of its species, its own index).
Neither depends on the number of species, images or processes.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import multiprocessing
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dmlstudy.core.files import atomic_path

# --- Difficulty -------------------------------------------------------------
# How much two images of one species may differ. Pairs are the limits of a
# uniform distribution.
ROTATION_DEGREES = 12.0  # whole bird, either way
HEAD_TILT_DEGREES = 10.0  # head against body, either way
TAIL_TILT_DEGREES = 8.0  # tail against body, either way
FORESHORTENING = (0.80, 1.0)  # length of the bird as seen, over its true length
FILL = (0.85, 1.0)  # bird's box over the image, along the tighter side
OFF_CENTRE = 0.0  # share of the bird's box that may leave the image
PLACE = (0.3, 0.7)  # where in the room around its box the bird is, from border to border
COLOUR_JITTER = 8.0  # individual plumage, of 255, per colour and channel
EXPOSURE = (0.8, 1.15)  # gain of the whole image
WARMTH = 0.06  # red gained and blue lost (or the reverse), as a share
SIDE_LIGHT = 0.12  # gain at one border over the other, either way
HAZE = (0.0, 0.1)  # share of the contrast lost to grey
NOISE = 4.0  # sensor noise, of 255, either way
DEFOCUS = (0.0, 0.008)  # blur radius over the short side
BACKDROP_BLOBS = (3, 8)  # soft shapes behind the bird
PLUMAGE_BLOBS = 0.15  # share of these shapes with a colour of plumage
BACKDROP_LEAVES = (0, 4)  # sharp leaves and twigs behind the bird
OCCLUSION_PROBABILITY = 0.1  # of each of two objects in front of the bird
OCCLUDER_SIZE = (0.18, 0.38)  # length of a leaf over the bird's longer side
# ----------------------------------------------------------------------------

SUPERSAMPLING = 3  # draw at this many times the size, because PIL has no antialiasing
MAX_CLASSES_PER_GENUS = 16  # code words of `_code_words`

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (38, 36, 40),
    "slate": (84, 94, 112),
    "grey": (146, 148, 150),
    "white": (238, 234, 224),
    "buff": (220, 188, 138),
    "brown": (110, 78, 54),
    "rufous": (174, 86, 44),
    "olive": (116, 120, 62),
    "yellow": (234, 198, 62),
    "orange": (228, 126, 44),
    "crimson": (180, 42, 50),
    "pink": (216, 134, 132),
    "blue": (60, 98, 170),
    "teal": (46, 132, 130),
}

# Shared by a genus.
BASE_TRAITS: dict[str, tuple[str, ...]] = {
    "back_colour": ("slate", "grey", "brown", "olive", "rufous", "teal", "blue"),
    "wing_colour": ("black", "slate", "brown", "olive", "rufous", "blue"),
    "breast_colour": ("white", "buff", "yellow", "grey", "orange", "pink"),
}

# Visible in a small image.
BOLD_TRAITS: dict[str, tuple[str, ...]] = {
    "bill_shape": ("cone", "needle", "long", "curved", "hooked"),
    "crest": ("none", "peak", "spike", "swept"),
    "crown_colour": ("black", "rufous", "yellow", "crimson", "white", "blue"),
    "throat_colour": ("white", "black", "rufous", "yellow", "crimson", "teal"),
    "breast_pattern": ("plain", "streaks", "spots", "band", "dark belly"),
    "wing_bars": ("none", "one white", "two white", "one yellow", "two yellow"),
    "tail_shape": ("square", "long", "forked", "fan"),
}

# One or two pixels in a small image.
SUBTLE_TRAITS: dict[str, tuple[str, ...]] = {
    "bill_colour": ("black", "grey", "orange", "crimson", "yellow"),
    "eye_ring": ("none", "white", "yellow", "crimson"),
    "eye_stripe": ("none", "black line", "white brow", "black mask"),
    "tail_tip": ("none", "white", "black", "rufous", "yellow"),
    "leg_colour": ("black", "grey", "orange", "pink"),
}

TRAITS: dict[str, tuple[str, ...]] = BASE_TRAITS | BOLD_TRAITS | SUBTLE_TRAITS

# Number of bold traits in which the members of a genus differ; any two members
# differ in at least two of them.
_MARKS = 3

# Purpose of a random stream (first number of the spawn key of a SeedSequence).
_GENUS_STREAM, _IMAGE_STREAM, _NAME_STREAM = 0, 1, 2

Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]
Shape = tuple[np.ndarray, Colour]  # corners of a polygon (n, 2), its colour


@dataclass(frozen=True)
class Species:
    """What a species looks like. Lengths are in body lengths, angles in degrees."""

    index: int
    genus: int
    name: str
    body_depth: float  # half the height of the body
    head_size: float  # radius of the head
    leg_length: float
    carriage: float  # how upright the body is held
    back_colour: str
    wing_colour: str
    breast_colour: str
    bill_shape: str
    crest: str
    crown_colour: str
    throat_colour: str
    breast_pattern: str
    wing_bars: str
    tail_shape: str
    bill_colour: str
    eye_ring: str
    eye_stripe: str
    tail_tip: str
    leg_colour: str

    @property
    def traits(self) -> dict[str, str]:
        """The value of every trait in `TRAITS`."""
        return {trait: getattr(self, trait) for trait in TRAITS}


def _generator(seed: int, *key: int) -> np.random.Generator:
    # Explicit bit generator, because NumPy may change its default.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


# --- Species ----------------------------------------------------------------


def species_traits(seed: int, index: int, classes_per_genus: int = 4) -> Species:
    """Returns species `index` (from 0) of the infinite sequence of `seed`.

    Species `index` belongs to genus `index // classes_per_genus`.

    Raises:
        ValueError: `seed` or `index` is negative, or `classes_per_genus` is
            not in 1..`MAX_CLASSES_PER_GENUS`.
    """
    _require(seed >= 0, f"seed must not be negative, got {seed}")
    _require(index >= 0, f"species index must not be negative, got {index}")
    _require(
        1 <= classes_per_genus <= MAX_CLASSES_PER_GENUS,
        f"classes_per_genus must be in 1..{MAX_CLASSES_PER_GENUS}, got {classes_per_genus}",
    )
    genus, member = divmod(index, classes_per_genus)
    rng = _generator(seed, _GENUS_STREAM, genus)
    shape = {
        "body_depth": rng.uniform(0.22, 0.31),
        "head_size": rng.uniform(0.165, 0.215),
        "leg_length": rng.uniform(0.14, 0.30),
        "carriage": rng.uniform(5.0, 45.0),
    }
    traits = {trait: _pick(rng, values) for trait, values in TRAITS.items()}

    marks = rng.permutation(list(BOLD_TRAITS))[:_MARKS]
    word = _code_words()[rng.permutation(MAX_CLASSES_PER_GENUS)[member]]
    for trait, letter in zip(marks, word, strict=True):
        traits[str(trait)] = str(rng.permutation(TRAITS[trait])[letter])
    return Species(
        index=index,
        genus=genus,
        name=f"{_name(seed, 0, genus).capitalize()}_{_name(seed, 1, index)}",
        **shape,
        **traits,
    )


def _code_words() -> list[tuple[int, int, int]]:
    """Sixteen words of three letters 0..3; any two differ in at least two letters."""
    return [(a, b, (a + b) % 4) for a, b in itertools.product(range(4), repeat=2)]


_SYLLABLES = [c + v for c in "bcdfglmnprstvz" for v in "aeiou"]
_ENDINGS = (
    ("lia", "nis", "rax", "thus", "dea", "phus", "via", "rion"),
    ("tus", "ris", "lens", "ceps", "nax", "dis", "vus", "ster"),
)


def _name(seed: int, rank: int, number: int) -> str:
    """An invented word, unique for numbers below 39200 (rank: genus 0, species 1)."""
    words = len(_SYLLABLES) ** 2 * len(_ENDINGS[rank])
    offset = int(_generator(seed, _NAME_STREAM, rank).integers(words))
    # A stride without a common factor with `words` visits every word once.
    left, ending = divmod((offset + 24229 * number) % words, len(_ENDINGS[rank]))
    first, second = divmod(left, len(_SYLLABLES))
    return _SYLLABLES[first] + _SYLLABLES[second] + _ENDINGS[rank][ending]


# --- Geometry ---------------------------------------------------------------
# A bird is a list of polygons in body lengths: it looks to the right, x grows
# to the right, y grows downwards and the origin is the middle of the body.


@lru_cache(maxsize=256)
def _arc(start: float, stop: float, corners: int = 14) -> np.ndarray:
    """Points of the unit circle from one angle to another (degrees, clockwise)."""
    angle = np.radians(np.linspace(start, stop, corners))
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points.flags.writeable = False  # shared by all callers
    return points


_CIRCLE = _arc(0, 345, 24)
_DOT = _arc(0, 315, 8)


def _place(points, scale: float = 1.0, degrees: float = 0.0, at=(0.0, 0.0)) -> np.ndarray:
    """Scales, then turns (clockwise), then moves points (n, 2)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray(points) @ (scale * np.array([[c, s], [-s, c]])) + at


def _place_shapes(shapes: list[Shape], *pose, **named_pose) -> list[Shape]:
    """`_place` for every shape, in one go for speed."""
    stacked = _place(np.concatenate([points for points, _ in shapes]), *pose, **named_pose)
    return _recolour(stacked, shapes)


def _recolour(stacked: np.ndarray, shapes: list[Shape]) -> list[Shape]:
    """Shapes with the corners of `stacked`, and the colours and sizes of `shapes`."""
    moved, start = [], 0
    for points, colour in shapes:
        moved.append((stacked[start : start + len(points)], colour))
        start += len(points)
    return moved


def _strip(start, stop, width_start: float, width_stop: float) -> np.ndarray:
    """A straight strip between two points."""
    (x0, y0), (x1, y1) = start, stop
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
    return np.array(
        [
            (x0 + nx * width_start, y0 + ny * width_start),
            (x1 + nx * width_stop, y1 + ny * width_stop),
            (x1 - nx * width_stop, y1 - ny * width_stop),
            (x0 - nx * width_start, y0 - ny * width_start),
        ]
    )


def _leaf(corners: int = 7) -> np.ndarray:
    """A pointed leaf from (-0.5, 0) to (0.5, 0)."""
    x = np.linspace(-0.5, 0.5, corners)
    y = 0.8 * (0.25 - x**2)
    return np.concatenate([np.stack([x, y], 1), np.stack([x, -y], 1)[-2:0:-1]])


def _tone(colour: Colour, factor: float) -> Colour:
    """A colour darker (factor below 1) or lighter (above 1)."""
    r, g, b = (min(255, max(0, round(factor * channel))) for channel in colour)
    return r, g, b


def _rounded(points: np.ndarray, colour: Colour) -> list[Shape]:
    """A polygon lit from above: smaller, lighter copies of it on top of it."""
    middle = points.mean(axis=0)
    high = np.array([0.0, np.ptp(points[:, 1])])
    return [
        ((points - middle) * size + middle - (1 - size) * 0.35 * high, _tone(colour, tone))
        for size, tone in ((1.0, 0.80), (0.88, 0.92), (0.70, 1.0), (0.45, 1.08))
    ]


# --- The bird ---------------------------------------------------------------

_BILLS = {  # in head radii from the middle of the head
    "cone": [(0.7, -0.38), (1.2, -0.2), (1.6, 0.12), (1.2, 0.36), (0.7, 0.46)],
    "needle": [(0.8, -0.10), (1.85, 0.07), (0.8, 0.24)],
    "long": [(0.8, -0.16), (2.0, -0.02), (2.75, 0.12), (2.0, 0.20), (0.8, 0.30)],
    "curved": [(0.8, -0.2), (1.6, -0.1), (2.2, 0.3), (2.4, 0.75), (1.8, 0.36), (0.8, 0.3)],
    "hooked": [(0.7, -0.42), (1.3, -0.38), (1.7, 0.0), (1.62, 0.52), (1.35, 0.2), (0.7, 0.4)],
}
_CRESTS = {  # in head radii
    "peak": [(0.45, -0.85), (-0.05, -1.5), (-0.75, -0.6)],
    "spike": [(0.15, -0.95), (-0.75, -2.1), (-0.8, -0.6)],
    "swept": [(0.1, -0.98), (-1.0, -1.05), (-1.95, -0.55), (-0.95, -0.25)],
}
_TAILS = {  # (length, outline with x from 0 at the root to 1 at the end)
    "square": (0.40, [(0, -0.08), (1, -0.10), (1, 0.10), (0, 0.08)]),
    "long": (0.78, [(0, -0.07), (0.9, -0.07), (1, 0), (0.9, 0.07), (0, 0.07)]),
    "forked": (0.62, [(0, -0.07), (1, -0.17), (0.62, 0), (1, 0.17), (0, 0.07)]),
    "fan": (
        0.46,
        [(0, -0.08), (0.8, -0.2), (0.95, -0.1), (1, 0), (0.95, 0.1), (0.8, 0.2), (0, 0.08)],
    ),
}


def _bird_shapes(species: Species, rng: np.random.Generator) -> tuple[list[Shape], np.ndarray]:
    """One bird in a random pose: its polygons, from back to front, and its foot (2,)."""
    jitter = rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, (len(COLOURS), 3))
    paint = {
        name: _tone(rgb, 1.0)
        for name, rgb in zip(COLOURS, np.array(list(COLOURS.values())) + jitter, strict=True)
    }
    upright = -species.carriage
    body = [
        *_tail_shapes(species, paint, rng),
        *_body_shapes(species, paint, rng),
    ]
    wing = _wing_shapes(species, paint, rng)
    shoulder = _place([(0.24, -0.04)], degrees=upright)[0]
    head_at = _place([(0.43, -0.12)], degrees=upright)[0] + (0.03, -0.4 * species.head_size)
    tilt = rng.uniform(-HEAD_TILT_DEGREES, HEAD_TILT_DEGREES)

    hip = _place([(-0.02, 0.7 * species.body_depth)], degrees=upright)[0]
    foot = np.add(hip, (0.05, species.leg_length + 0.3 * species.body_depth))
    legs: list[Shape] = []
    for side, tone in ((0.11, 0.75), (0.0, 1.0)):
        colour = _tone(paint[species.leg_colour], tone)
        thigh, toe = np.add(hip, (side, 0)), np.add(foot, (side, 0))
        heel, claw = np.subtract(toe, (0.05, 0)), np.add(toe, (0.09, 0))
        legs.append((_strip(thigh, toe, 0.055, 0.035), colour))
        legs.append((_strip(heel, claw, 0.03, 0.03), colour))

    neck = _strip(shoulder, head_at, 2.4 * species.head_size, 1.8 * species.head_size)
    return [
        *legs,
        *_place_shapes(body, degrees=upright),
        (neck, _tone(paint[species.back_colour], 0.86)),
        *_place_shapes(_head_shapes(species, paint), species.head_size, tilt, head_at),
        *_place_shapes(wing, degrees=upright),
    ], foot


def _tail_shapes(species, paint, rng) -> list[Shape]:
    length, outline = _TAILS[species.tail_shape]
    tilt = rng.uniform(-TAIL_TILT_DEGREES, TAIL_TILT_DEGREES)
    full = np.array(outline, dtype=float)
    # Raising every corner to the border of the tip leaves the tip's outline.
    tip = np.stack([np.maximum(full[:, 0], 0.74), full[:, 1]], axis=1)
    stretch = np.array([-length, 1.0])
    colour = _tone(paint[species.wing_colour], 0.85)
    shapes = [(full * stretch, colour)]
    if species.tail_tip != "none":
        shapes.append((tip * stretch, paint[species.tail_tip]))
    shapes.append((_strip((0, 0), (-0.9 * length, 0), 0.012, 0.012), _tone(colour, 0.7)))
    return _place_shapes(shapes, degrees=tilt, at=(-0.40, -0.03))


def _body_shapes(species, paint, rng) -> list[Shape]:
    def egg(unit):  # the unit disc to the body, which is deeper at the breast
        x, y = unit[:, 0], unit[:, 1]
        return np.stack([0.5 * x, species.body_depth * y * (1 + 0.16 * x)], axis=1)

    breast_colour = paint[species.breast_colour]
    breast = egg(np.concatenate([_arc(-40, 155), [(-0.5, 0.25), (0.0, 0.0), (0.4, -0.4)]]))
    shapes = [*_rounded(egg(_CIRCLE), paint[species.back_colour]), *_rounded(breast, breast_colour)]
    mark = _tone(paint["brown"], 0.7)
    if species.breast_pattern in ("streaks", "spots"):
        for ring, angles in ((0.88, range(-18, 120, 19)), (0.64, range(-10, 120, 26))):
            for angle in angles:
                turned = math.radians(angle + rng.uniform(-5, 5))
                x, y = egg(ring * np.array([(math.cos(turned), math.sin(turned))]))[0]
                if species.breast_pattern == "spots":
                    shapes.append((_place(_DOT, 0.024, at=(x, y)), mark))
                else:
                    shapes.append(
                        (_strip((x + 0.03, y - 0.05), (x - 0.03, y + 0.05), 0.028, 0.012), mark)
                    )
    elif species.breast_pattern == "band":
        outer, inner = _arc(-34, 62, 8), 0.72 * _arc(62, -34, 8)
        shapes.append((egg(np.concatenate([outer, inner - (0.04, 0)])), mark))
    elif species.breast_pattern == "dark belly":
        shapes.append((egg(np.concatenate([_arc(52, 138, 8), 0.55 * _arc(138, 52, 4)])), mark))
    return shapes


def _head_shapes(species, paint) -> list[Shape]:
    """In head radii from the middle of the head, before it is tilted."""
    face, crown = paint[species.back_colour], paint[species.crown_colour]
    bill = np.array(_BILLS[species.bill_shape])
    shapes: list[Shape] = []
    if species.crest != "none":
        shapes.append((np.array(_CRESTS[species.crest]), _tone(crown, 0.9)))
    shapes += [
        (bill, paint[species.bill_colour]),
        (np.maximum(bill, (0, 0.1)), _tone(paint[species.bill_colour], 0.7)),
        *_rounded(_CIRCLE, face),
        (
            np.concatenate([_arc(5, 60, 6), [(0.3, 1.4), (-0.3, 1.4), (-0.5, 0.8), (0.1, 0.3)]]),
            paint[species.throat_colour],
        ),
        (np.concatenate([_arc(-170, -22), [(0.4, -0.32), (-0.4, -0.3)]]), crown),
        (_place(_arc(-150, -50, 8), 0.8), _tone(crown, 1.1)),
    ]
    if species.eye_stripe == "black line":
        shapes.append((_strip((0.95, 0.0), (-0.95, -0.05), 0.18, 0.26), paint["black"]))
    elif species.eye_stripe == "white brow":
        shapes.append((_strip((0.85, -0.32), (-0.9, -0.34), 0.2, 0.26), paint["white"]))
    elif species.eye_stripe == "black mask":
        shapes.append((_place(_leaf(), 1.9, at=(0.08, 0.02)), paint["black"]))
    eye = (0.36, -0.08)
    if species.eye_ring != "none":
        shapes.append((_place(_DOT, 0.34, at=eye), paint[species.eye_ring]))
    return [
        *shapes,
        (_place(_DOT, 0.2, at=eye), (18, 14, 14)),
        (_place(_DOT, 0.07, at=(0.42, -0.15)), (240, 240, 240)),
    ]


def _wing_shapes(species, paint, rng) -> list[Shape]:
    """The folded wing: along x from 0 at the shoulder to 1 at the tip."""

    def width(x):
        return 0.165 * np.sin(np.pi * np.asarray(x) ** 0.62) + 0.015

    def outline(start, stop):
        x = np.linspace(start, stop, 9)
        return np.concatenate(
            [np.stack([x, -0.65 * width(x)], 1), np.stack([x, 1.05 * width(x)], 1)[::-1]]
        )

    colour = paint[species.wing_colour]
    shapes = [
        *_rounded(outline(0.0, 1.0), colour),
        (outline(0.62, 1.0), _tone(colour, 0.7)),
    ]
    for y in (0.25, 0.55, 0.85):
        shapes.append(
            (_strip((0.4, y * 0.15), (0.95, y * 0.03), 0.012, 0.008), _tone(colour, 0.62))
        )
    if species.wing_bars != "none":
        count, bar_colour = species.wing_bars.split()
        for x in (0.27, 0.45)[: 1 if count == "one" else 2]:
            bar = _strip((x - 0.03, -0.55 * width(x)), (x + 0.03, 0.95 * width(x)), 0.055, 0.07)
            shapes.append((bar, paint[bar_colour]))
    droop = rng.uniform(-6, 6)
    # The wing grows to the left while it is described along x.
    leftward = [(points * (-0.86, 1.0), tint) for points, tint in shapes]
    return _place_shapes(leftward, degrees=droop - 4, at=(0.30, -0.06))


# --- The image --------------------------------------------------------------

_BACKDROPS = (  # (above, below)
    ((158, 192, 224), (206, 220, 230)),  # sky
    ((96, 128, 70), (50, 80, 44)),  # foliage
    ((150, 158, 120), (124, 98, 70)),  # ground
    ((140, 168, 190), (84, 112, 66)),  # sky over foliage
    ((120, 110, 100), (74, 66, 58)),  # bark
)
_LEAVES = ((74, 112, 46), (110, 140, 60), (150, 140, 60), (128, 84, 44), (52, 84, 50))
_BARK = ((92, 72, 56), (120, 104, 88), (70, 58, 48))


def draw_bird(
    species: Species, rng: np.random.Generator, image_size: int
) -> tuple[Image.Image, Box]:
    """Draws one image of a species.

    Args:
        rng: the source of everything that does not belong to the species.
        image_size: the short side in pixels; the long side is random.

    Returns:
        The RGB image, and the box (x, y, width, height) in pixels around
        the bird, clipped to the image. Occlusion does not change the box.

    Raises:
        ValueError: `image_size` is less than 8.
    """
    _require(image_size >= 8, f"image_size must be at least 8 pixels, got {image_size}")
    long_side = round(image_size * rng.uniform(1.15, 1.5))
    portrait = rng.random() < 0.3
    size = (image_size, long_side) if portrait else (long_side, image_size)

    shapes, foot = _bird_shapes(species, rng)
    bird, foot, box = _pose(shapes, foot, size, rng)

    scene: list[Shape] = []
    for _ in range(rng.integers(*BACKDROP_LEAVES, endpoint=True)):
        anchor = rng.uniform(0, 1, 2) * size
        scene += _plant(anchor, rng.uniform(0.15, 0.45) * image_size, rng)
    if rng.random() < 0.8:
        scene += _perch(foot, max(size), image_size, rng)
    scene += bird
    x, y, width, height = box
    for _ in range(2):
        if rng.random() < OCCLUSION_PROBABILITY:
            anchor = np.array([x, y]) + rng.uniform(0, 1, 2) * (width, height)
            scene += _plant(anchor, rng.uniform(*OCCLUDER_SIZE) * max(width, height), rng)
    canvas = _backdrop(size, rng)
    _draw_shapes(canvas, scene)
    return _expose(canvas.reduce(SUPERSAMPLING), rng), box


def _pose(shapes, foot, size, rng) -> tuple[list[Shape], np.ndarray, Box]:
    """Turns, scales and moves the bird into an image of `size` (width, height).

    Returns the shapes and the foot (2,) in pixels, and the clipped box.
    """
    stacked = np.concatenate([*(points for points, _ in shapes), foot[None]])
    facing = 1 if rng.random() < 0.5 else -1
    stacked = stacked * (facing * rng.uniform(*FORESHORTENING), 1.0)
    stacked = _place(stacked, degrees=rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    low, high = stacked.min(axis=0), stacked.max(axis=0)
    extent = high - low
    scale = rng.uniform(*FILL) * np.min(np.array(size) / extent)
    slack = np.array(size) - extent * scale
    spill = OFF_CENTRE * extent * scale
    corner = rng.uniform(PLACE[0] * slack - spill, PLACE[1] * slack + spill)
    stacked = (stacked - low) * scale + corner

    first = np.clip(corner, 0, size)
    last = np.clip(corner + extent * scale, 0, size)
    # Rounded as in the file, so that the box is inside the image after rounding.
    left, top = (math.ceil(10 * value) / 10 for value in first.tolist())
    right, bottom = (math.floor(10 * value) / 10 for value in last.tolist())
    box = (left, top, round(right - left, 1), round(bottom - top, 1))
    return _recolour(stacked, shapes), stacked[-1], box


def _backdrop(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """An out-of-focus background of `size`, supersampled."""
    # Drawn tiny and enlarged: as soft as a blur, but the cost does not depend on the image size.
    tiny = (28, round(28 * size[1] / size[0]))
    above, below = np.array(_BACKDROPS[rng.integers(len(_BACKDROPS))]) + rng.uniform(-25, 25, 3)
    ramp = np.linspace(0, 1, tiny[1])[:, None, None]
    rows = np.clip(above + ramp * (below - above), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (tiny[1], tiny[0], 3))))
    draw = ImageDraw.Draw(image)
    plumage = list(COLOURS.values())
    for _ in range(rng.integers(*BACKDROP_BLOBS, endpoint=True)):
        colours = plumage if rng.random() < PLUMAGE_BLOBS else _LEAVES
        x, y = rng.uniform(0, 1, 2) * tiny
        rx, ry = rng.uniform(1.0, 6.0, 2)
        draw.ellipse(
            [round(x - rx), round(y - ry), round(x + rx), round(y + ry)],
            fill=_tone(_pick(rng, colours), rng.uniform(0.7, 1.2)),
        )
    large = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    image = image.filter(ImageFilter.GaussianBlur(0.8))
    return image.resize(large, Image.Resampling.BILINEAR)


def _plant(at: np.ndarray, length: float, rng: np.random.Generator) -> list[Shape]:
    """A leaf of `length` pixels around a point, or (less often) a longer twig."""
    turn = rng.uniform(0, 360)
    if rng.random() < 0.7:
        colour = _tone(_pick(rng, _LEAVES), rng.uniform(0.7, 1.3))
        vein = _strip((-0.5, 0), (0.45, 0), 0.03, 0.01)
        shapes = [(_leaf(), colour), (vein, _tone(colour, 1.2))]
    else:
        colour = _tone(_pick(rng, _BARK), rng.uniform(0.8, 1.2))
        shapes = [(_strip((-1.5, 0), (1.5, 0), 0.16, 0.10), colour)]
    return _place_shapes(shapes, length, turn, at)


def _perch(
    foot: np.ndarray, reach: float, image_size: int, rng: np.random.Generator
) -> list[Shape]:
    """A branch under the foot, `reach` pixels to either side."""
    colour = _tone(_pick(rng, _BARK), rng.uniform(0.8, 1.2))
    thick = rng.uniform(0.04, 0.10) * image_size
    shine = _strip((-reach, -0.25 * thick), (reach, -0.25 * thick), 0.2 * thick, 0.2 * thick)
    shapes = [
        (_strip((-reach, 0), (reach, 0), thick, 0.8 * thick), colour),
        (shine, _tone(colour, 1.25)),
    ]
    under = np.add(foot, (0, 0.4 * thick))
    return _place_shapes(shapes, 1.0, rng.uniform(-18, 18), under)


def _draw_shapes(canvas: Image.Image, shapes: list[Shape]) -> None:
    """Fills polygons given in pixels of the finished image."""
    draw = ImageDraw.Draw(canvas)
    # Rounded to eighths of a pixel: the last bit of a sine differs between
    # machines and must not move an edge.
    stacked = np.concatenate([points for points, _ in shapes])
    corners = np.round(stacked * (8 * SUPERSAMPLING)) / 8
    for points, colour in _recolour(corners, shapes):
        draw.polygon(points.ravel().tolist(), fill=colour)


def _expose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gives an image its focus, light, haze and noise."""
    defocus = rng.uniform(*DEFOCUS) * min(image.size)
    image = image.filter(ImageFilter.GaussianBlur(defocus))
    warmth = rng.uniform(-WARMTH, WARMTH)
    gain = rng.uniform(*EXPOSURE) * np.array([1 + warmth, 1.0, 1 - warmth])
    haze = rng.uniform(*HAZE)
    across = rng.uniform(-SIDE_LIGHT, SIDE_LIGHT) * np.linspace(-0.5, 0.5, image.width)
    gains = ((1 - haze) * gain * (1 + across[:, None])).astype(np.float32)
    pixels = np.asarray(image, dtype=np.float32) * gains
    pixels += np.float32(haze * rng.uniform(90, 170))
    spread = round(NOISE)
    pixels += rng.integers(-spread, spread, pixels.shape, dtype=np.int8, endpoint=True)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _pick(rng: np.random.Generator, values):
    return values[int(rng.integers(len(values)))]


# --- The archive ------------------------------------------------------------

TOP_FOLDER = "CUB_200_2011"


@dataclass(frozen=True)
class _Job:
    """One image to draw."""

    seed: int
    species: Species
    image: int
    image_size: int
    quality: int


def render_image(job: _Job) -> tuple[bytes, Box]:
    """Draws one image: its JPEG bytes and its box (x, y, width, height) in pixels."""
    rng = _generator(job.seed, _IMAGE_STREAM, job.species.index, job.image)
    image, box = draw_bird(job.species, rng, job.image_size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=job.quality)
    return buffer.getvalue(), box


def write_archive(
    path: str | os.PathLike,
    *,
    classes: int,
    images_per_class: int,
    image_size: int,
    seed: int,
    first_class: int = 0,
    classes_per_genus: int = 4,
    quality: int = 90,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Draws a data set into a `.tgz` in the layout of CUB-200-2011.

    The archive holds, under `CUB_200_2011/`, the images in `images/` and
    then `bounding_boxes.txt`, `classes.txt`, `image_class_labels.txt`,
    `images.txt` and `train_test_split.txt`, where the images of a class
    alternate between training and testing. The same arguments give the same
    bytes, whatever `threads` is. The file appears at `path` when complete.

    Args:
        classes: number of species, starting at `first_class`.
        images_per_class: number of images of each species.
        image_size: short side of the images in pixels.
        seed: everything is derived from it.
        first_class: index of the first species in the seed's sequence;
            disjoint ranges have no species in common.
        classes_per_genus: number of species that are hard to tell apart.
        quality: JPEG quality, 1 to 95.
        threads: number of processes that draw.
        progress: called with 1 after each image, in this process.

    Raises:
        ValueError: an argument is out of its range.
        OSError: the archive cannot be written.
    """
    for name, value, least in (
        ("classes", classes, 1),
        ("images_per_class", images_per_class, 1),
        ("image_size", image_size, 8),
        ("seed", seed, 0),
        ("first_class", first_class, 0),
        ("threads", threads, 1),
    ):
        _require(value >= least, f"{name} must be at least {least}, got {value}")
    _require(1 <= quality <= 95, f"quality must be in 1..95, got {quality}")
    flock = [
        species_traits(seed, first_class + offset, classes_per_genus) for offset in range(classes)
    ]
    jobs = (
        _Job(seed, species, image, image_size, quality)
        for species in flock
        for image in range(images_per_class)
    )
    with atomic_path(path) as temporary, open(temporary, "wb") as file, _tar_gz(file) as tar:
        boxes = []
        names = list(_image_names(flock, images_per_class))
        # Closed at once after an error too, so that the processes stop drawing.
        with closing(_in_order(render_image, jobs, threads)) as images:
            for name, (data, box) in zip(names, images, strict=True):
                _add(tar, f"images/{name}", data)
                boxes.append(box)
                if progress is not None:
                    progress(1)
        for name, rows in sorted(_tables(flock, names, boxes, images_per_class).items()):
            text = "".join(f"{number} {row}\n" for number, row in enumerate(rows, start=1))
            _add(tar, name, text.encode("ascii"))


def _class_names(flock: list[Species]) -> list[str]:
    return [f"{number:03d}.{species.name}" for number, species in enumerate(flock, start=1)]


def _image_names(flock: list[Species], images_per_class: int) -> Iterator[str]:
    for folder, species in zip(_class_names(flock), flock, strict=True):
        for image in range(images_per_class):
            yield f"{folder}/{species.name}_{image + 1:04d}_{species.index}.jpg"


def _tables(flock, names, boxes, images_per_class) -> dict[str, Iterable[object]]:
    """The rows of each text file, without the 1-based number at their start."""
    return {
        "images.txt": names,
        "classes.txt": _class_names(flock),
        "image_class_labels.txt": (1 + i // images_per_class for i in range(len(names))),
        "bounding_boxes.txt": (" ".join(f"{value:.1f}" for value in box) for box in boxes),
        "train_test_split.txt": (int(i % images_per_class % 2 == 0) for i in range(len(names))),
    }


def _in_order(function: Callable, jobs: Iterable, threads: int) -> Iterator:
    """Maps jobs on several processes, in order, with a bounded number of pending jobs."""
    if threads == 1:
        yield from map(function, jobs)
        return
    # Processes, because most of the drawing holds the interpreter's lock; spawned,
    # because a fork of a program with threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(threads, mp_context=context) as pool:
        ahead: deque = deque()
        try:
            for job in jobs:
                ahead.append(pool.submit(function, job))
                if len(ahead) >= 16 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def _tar_gz(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    # JPEG files cannot be compressed further. No name and no time: the same images give the same bytes.
    with (
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        yield tar


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(f"{TOP_FOLDER}/{name}")  # owner 0, time 0
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
