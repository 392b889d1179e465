"""No photograph is in an index twice, whatever it is called: files are compared by their SHA-256."""

import os

from dmlstudy.core.files import StudyError, file_digest


def check_digests(table, known, names, digests):
    """Raise StudyError if two photographs have the same bytes, among new ones and those of an index.

    ``table``: the index's table; ``known``: {image id: SHA-256} of its images, as far as it is stored;
    ``names``, ``digests``: of the new photographs; names are only for the message: paths, or what a client says.
    """
    seen = {}
    for image_id, name, path in zip(
        table["image_id"], table["class_name"], table["path"], strict=True
    ):
        digest = known.get(int(image_id))
        # An older index has no digests, but the enrolled photographs may still be there.
        if digest is None and os.path.isabs(path) and os.path.isfile(path):
            digest = file_digest(path)
        if digest:
            seen[digest] = f"is already in the index, as {name!r}: it equals {path}"
    for name, digest in zip(names, digests, strict=True):
        if digest in seen:
            raise StudyError(f"{name}: this photograph {seen[digest]}; nothing was enrolled")
        seen[digest] = f"was given twice: it equals {name}"
