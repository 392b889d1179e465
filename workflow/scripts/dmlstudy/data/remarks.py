"""Sentences about images that are used, but not quite as their files say. Worth knowing, no errors."""

from dmlstudy.core.names import first_of


def image_remarks(rows, inspected, notes):
    """Sentences about ``rows`` (see `formats.cub.build`) of images that could be read.

    ``inspected``: (width, height, …) of each image; ``notes``: a note of `images.open_with_note` each.
    """
    paths = [row["path"] for row in rows]
    boxes = [(row["path"], row["box"], size[:2]) for row, size in zip(rows, inspected, strict=True)]
    return note_remarks(zip(paths, notes, strict=True)) + box_remarks(boxes)


def note_remarks(notes):
    """A sentence per note of `images.open_with_note`; ``notes``: (path, note), "" for none."""
    by_note = {}
    for path, note in notes:
        if note:
            by_note.setdefault(note, []).append(path)
    remarks = [f"{note} ({first_of(paths)})" for note, paths in by_note.items()]
    depths = [note for note in by_note if "grey" in note]
    if len(depths) > 1:
        remarks.append(
            f"the ranges of grey images were guessed in {len(depths)} different ways, so equal values may "
            "have become different shades; save the images with 8 bits to choose one range for all"
        )
    return remarks


def box_remarks(boxes):
    """Sentences about bounding boxes that leave their images.

    ``boxes``: (path, box, (width, height)) of all images; a box is (x, y, width, height) in pixels or
    None.
    """
    known = [(path, box, size) for path, box, size in boxes if box is not None]
    outside, beyond = [], []
    for path, (x, y, across, down), (width, height) in known:
        if x >= width or y >= height or x + across <= 0 or y + down <= 0:
            outside.append(path)
        # Rounding may put an edge one pixel too far.
        elif min(x, y) < -1 or x + across > width + 1 or y + down > height + 1:
            beyond.append(path)
    remarks = []
    if outside:
        remarks.append(
            f"{len(outside)} of {len(known)} bounding boxes lie outside their images, so heat maps of these "
            f"images are not scored ({first_of(outside)})"
        )
    if beyond:
        remarks.append(
            f"{len(beyond)} of {len(known)} bounding boxes reach beyond their images and are cut at the edge "
            f"({first_of(beyond)})"
        )
    return remarks
