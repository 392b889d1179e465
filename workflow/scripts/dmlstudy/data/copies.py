"""Photographs that a data set holds several times: the same bytes, the same pixels, or nearly the same.

Near duplicates are found by perceptual hashes: of images of another size, compression or brightness, and
of mirror images. Crops and other shots of the same scene are not found on purpose.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from dmlstudy.data.images import open_rgb

# Bits of a hash: 64 of each kind.
BITS = 128
# Side in pixels of the grey image that is hashed.
SIDE = 32
# Grey images whose values differ by less than this, of 255, show nothing that could be compared.
FLAT = 8
KINDS = ("same bytes", "same pixels", "near duplicate")
COLUMNS = ["set", "kind", "image_id", "path", "class_name", "like", "distance", "mirrored"]


def perceptual_hashes(image):
    """Perceptual hashes of an image and of its mirror image: uint8 array (2, 16).

    A hash is imagehash's ``phash`` (low frequencies) and ``dhash`` (gradients), 64 bits each. Either
    alone takes different birds before an even sky for copies. Zeros for an image in which nothing is seen.
    """
    import imagehash

    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    darkest, brightest = grey.getextrema()
    if brightest - darkest < FLAT:
        return np.zeros((2, BITS // 8), dtype=np.uint8)
    found = [
        np.concatenate([imagehash.phash(one).hash.ravel(), imagehash.dhash(one).hash.ravel()])
        for one in (grey, ImageOps.mirror(grey))
    ]
    return np.packbits(found, axis=1)


def hash_images(folder, paths, *, max_pixels, threads=1, progress=None):
    """`perceptual_hashes` of the images ``paths`` below ``folder``: uint8 array (images, 2, 16).

    ``progress(1)`` is called after each image. Raises StudyError for an image that cannot be read.
    """
    hashes = np.zeros((len(paths), 2, BITS // 8), dtype=np.uint8)

    def look(path):
        return perceptual_hashes(open_rgb(Path(folder) / path, max_pixels=max_pixels))

    with ThreadPoolExecutor(threads) as pool:
        for row, found in enumerate(pool.map(look, paths)):
            hashes[row] = found
            if progress:
                progress(1)
    return hashes


def pixel_digest(image):
    """Digest of an RGB image's size and pixels."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def find_copies(folder, manifest, hashes, *, near, max_pixels, threads=1):
    """Sets of copies, as a table with the columns `COLUMNS`, a row per photograph.

    ``manifest``: a row per image, with image_id, path, class_name, width, height and sha256.
    ``hashes``: `hash_images` of its rows. ``near``: number of the 128 bits that may differ between near
    duplicates; None to look for files with the same bytes only, without ``hashes``. Two photographs are
    in one ``set`` (0, 1, …) if a chain of copies leads from one to the other. ``kind`` is one of `KINDS`, the weakest of the set.
    ``like``: path of the copy in the set that is closest to this photograph; ``distance``: bits in which
    they differ; ``mirrored``: whether one is the mirror image of the other. Sets and their photographs are
    in order of the manifest. Raises StudyError for an image that cannot be read.
    """
    # Only here: pages use this module for less, and start faster without.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    manifest = manifest.reset_index(drop=True)
    pixels = manifest["sha256"]
    links = [_alike(pixels, 0)]
    if near is not None:
        pixels = _pixels(folder, manifest, hashes, max_pixels)
        links += [_alike(pixels, 1), *_near(hashes, near, threads)]
    links = np.concatenate(links)
    count = len(manifest)
    graph = coo_matrix((np.ones(len(links)), (links["one"], links["other"])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    both = np.concatenate([links, links])
    both["one"][len(links) :], both["other"][len(links) :] = links["other"], links["one"]
    # The best link of each photograph comes first.
    both = both[np.lexsort((both["other"], both["distance"], both["rank"], both["one"]))]
    rows, first = np.unique(both["one"], return_index=True)
    best = both[first]
    table = manifest.iloc[rows][["image_id", "path", "class_name"]].assign(
        label=labels[rows],
        like=manifest["path"].to_numpy()[best["other"]],
        distance=best["distance"],
        mirrored=np.where(best["mirrored"], "yes", "no"),
        bytes=manifest["sha256"].to_numpy()[rows],
        pixels=pixels.to_numpy()[rows],
    )
    # In order of the first photograph of each set.
    table["set"] = pd.factorize(table["label"])[0]
    by_set = table.groupby("set")
    different = (by_set["bytes"].nunique() > 1).astype(int)
    different += by_set["pixels"].nunique(dropna=False) > 1
    table["kind"] = table["set"].map(different).map(dict(enumerate(KINDS))).astype(object)
    return table.sort_values(["set", "image_id"], ignore_index=True)[COLUMNS]


_LINK = [("one", "i8"), ("other", "i8"), ("rank", "i8"), ("distance", "i8"), ("mirrored", "?")]


def _links(one, other, rank, distance=0, mirrored=False):
    links = np.zeros(len(one), dtype=_LINK)
    links["one"], links["other"], links["rank"] = one, other, rank
    links["distance"], links["mirrored"] = distance, mirrored
    return links


def _alike(values, rank):
    """Links of each row to the first with an equal value."""
    first = pd.Series(range(len(values))).groupby(values.to_numpy()).transform("first")
    rows = np.flatnonzero(first.to_numpy() != np.arange(len(values)))
    return _links(rows, first.to_numpy()[rows], rank)


def _pixels(folder, manifest, hashes, max_pixels):
    """What is equal for rows with the same pixels: a digest, or the file's where no other row can match.

    Only images of equal hash and size are decoded again.
    """
    keys = manifest[["width", "height"]].assign(hash=[one.tobytes() for one in hashes[:, 0]])
    found = manifest["sha256"].copy()
    candidates = manifest[keys.duplicated(keep=False).to_numpy()]
    # One decoding for all files with the same bytes.
    known = {}
    for row, path, digest in zip(
        candidates.index, candidates["path"], candidates["sha256"], strict=True
    ):
        if digest not in known:
            known[digest] = pixel_digest(open_rgb(Path(folder) / path, max_pixels=max_pixels))
        found[row] = known[digest]
    return found


def _near(hashes, near, threads):
    """Links of near duplicates. Images with the same hash are linked to the first of them."""
    # Imported here, because most users of this module compare no hashes.
    import faiss

    seen = np.flatnonzero(hashes.any(axis=(1, 2)))
    if not len(seen):
        return []
    codes, first, same = np.unique(hashes[seen, 0], axis=0, return_index=True, return_inverse=True)
    first, same = seen[first], same.ravel()
    others = np.flatnonzero(first[same] != seen)
    links = [_links(seen[others], first[same[others]], 2)]
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(BITS)
    index.add(codes)
    for mirrored in (False, True):
        queries = np.ascontiguousarray(hashes[first, int(mirrored)])
        # FAISS finds distances below the radius.
        limits, distances, found = index.range_search(queries, near + 1)
        rows = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        other = rows != found
        one, two = first[rows[other]], first[found[other]]
        links.append(_links(one, two, 2, distances[other], mirrored))
    return links
