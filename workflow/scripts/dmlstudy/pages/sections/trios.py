"""A query, what it was taken for and its right class, side by side."""

from dmlstudy.evaluate.metrics import distance

# Distances between embeddings of unit length go from 0 to 2.
FARTHEST = 2.0


def trio(images, query, right=None):
    """What the macro ``trio`` shows of one query.

    ``query``: a row of queries.csv, as a mapping. ``right``: a row of neighbours.csv, the nearest training
    image of the right class; without it an example of that class stands for it.
    """
    taken = float(distance(query["similarity"]))
    found = {
        "query": images.image(query["image_id"]),
        "taken": images.image(query["nearest_image_id"]),
        "taken_distance": taken,
        "taken_share": round(100 * taken / FARTHEST, 1),
        "correct": query["correct"] == 1,
        "copied": images.copied(query["image_id"], query["nearest_image_id"]),
        "right_distance": None,
        "right": None,
    }
    if found["correct"]:
        return found
    if right is None:
        return {**found, "right": images.example(query["class_id"])}
    return {
        **found,
        "right": images.image(right["nearest_image_id"]),
        "right_distance": right["distance"],
        "right_share": round(100 * right["distance"] / FARTHEST, 1),
    }
