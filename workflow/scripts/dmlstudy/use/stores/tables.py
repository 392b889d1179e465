"""An index in the tables of an SQL database. A change is one transaction that writes only what differs.

``gallery``: one row with the metadata as JSON, the class weights and a stamp that each change renews; ``classes``:
the name of each class; ``images``: class, path, SHA-256 and embedding of each image, in the order of ``position``.
What a way of answering keeps is not stored, only what it chose: it is computed again when it is asked.
"""

import io
import json
import uuid
from dataclasses import replace

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.use.gallery import COLUMNS, Gallery, names_of_classes, only_classes
from dmlstudy.use.index_files import MADE, check_model, check_version, rebuild_command
from dmlstudy.use.run_folder import check_run
from dmlstudy.use.stores.difference import class_names, difference
from dmlstudy.use.stores.store import Store

# Similarities that a database computes in float32 may differ by this from those in double precision.
MARGIN = 1e-5
# For more photographs than this, reading all embeddings once is quicker than searching for each.
SEARCHED = 4
# Images of the second-nearest class that are looked at, of which the nearest decides.
OTHERS = 8
IMAGE = "position, image_id, class_id, class_name, path"


class Tables(Store):
    """What stores in SQL databases have in common.

    A kind of database has the attributes and methods below. ``ask(statement, values)`` runs a statement, with ``?``
    where values go, and returns its rows; ``ask.many(statement, rows of values)`` runs one often. ``prefix``: beginning of the tables' names; ``distance``: the distance of
    ``embedding`` to a value, in SQL; ``making``: statements that make the tables, with ``{}`` where the prefix goes.
    """

    prefix, distance, making = "", "", ()

    def __init__(self, model, beside):
        super().__init__(model, beside)
        # (stamp, gallery) of what was last read or written, so that it need not be read again.
        self._last = (None, None)

    def _reading(self):
        """Context manager that gives ``ask`` for one moment of the database."""
        raise NotImplementedError

    def _writing(self):
        """Context manager that gives ``ask`` for one transaction, which is on the disk at its end, or undone."""
        raise NotImplementedError

    def _made(self, ask):
        """Whether the tables are there. StudyError if others are in their place."""
        raise NotImplementedError

    def _stored(self, vector):
        """The value that the database stores for a float32 vector (dim,)."""
        raise NotImplementedError

    def _vector(self, value):
        """The float32 vector (dim,) of a stored value."""
        raise NotImplementedError

    def exists(self):
        return self.stamp() is not None

    def stamp(self):
        with self._reading() as ask:
            return self._stamp(ask)

    def metadata(self):
        with self._reading() as ask:
            return self._metadata(ask)

    def table(self):
        with self._reading() as ask:
            self._metadata(ask)
            rows = ask(f"SELECT {IMAGE} FROM {self._joined} ORDER BY position")
        return _table(rows)

    def read(self):
        with self._reading() as ask:
            self._metadata(ask)
            return self._whole(ask)

    def write(self, gallery):
        # Ways keep files or large arrays, which are computed again.
        gallery = replace(gallery, kept={})
        with self._writing() as ask:
            before = None
            if not self._made(ask):
                self._make(ask)
            elif self._stamp(ask) is not None:
                before = self._whole(ask)
            self._write(ask, before, gallery)
            stamp = uuid.uuid4().hex
            metadata = json.dumps(gallery.metadata, allow_nan=False)
            values = (stamp, metadata, _packed(gallery.class_weights))
            ask(f"DELETE FROM {self.prefix}gallery")
            ask(f"INSERT INTO {self.prefix}gallery VALUES (?, ?, ?)", values)
        self._last = stamp, gallery

    def near(self, embeddings, count, only=None):
        if len(embeddings) > SEARCHED:
            return only_classes(self.read(), only)
        with self._reading() as ask:
            metadata = self._metadata(ask)
            # More do not vote, and a database knows no number without an end.
            count = min(count, metadata["images"])
            wanted = "TRUE"
            if only is not None:
                known = ask(f"SELECT class_id, class_name FROM {self.prefix}classes")
                names = set(names_of_classes([name for _, name in known], only))
                ids = ", ".join(str(class_id) for class_id, name in known if name in names)
                wanted = f"class_id IN ({ids})"
            found = {}
            for vector in np.asarray(embeddings, dtype=np.float32):
                for row in self._nearest(ask, vector, count, wanted):
                    found[row[0]] = row
        rows = [found[position] for position in sorted(found)]
        vectors = np.stack([self._vector(row[-1]) for row in rows])
        return Gallery(vectors, _table([row[:-1] for row in rows]), metadata)

    @property
    def _joined(self):
        return f"{self.prefix}images JOIN {self.prefix}classes USING (class_id)"

    def _nearest(self, ask, vector, count, wanted):
        """Rows of the nearest images of a vector, and of the nearest of another class than the very nearest."""
        width = 2 * (count + 1)
        while True:
            rows = self._closest(ask, vector, width, wanted)
            vectors = np.stack([self._vector(row[-1]) for row in rows]).astype(float)
            similarities = vectors @ vector.astype(float)
            # What is left out is clearly farther than the last that is needed.
            ordered = np.sort(similarities)[::-1]
            if len(rows) < width or ordered[count - 1] - ordered[-1] > MARGIN:
                break
            width *= 2
        first = max(range(len(rows)), key=lambda row: (similarities[row], -rows[row][1]))
        others = f"{wanted} AND class_id <> {rows[first][2]}"
        return rows + self._closest(ask, vector, OTHERS, others)

    def _closest(self, ask, vector, width, condition):
        # Sorted first, so that embeddings need not be carried through the sorting.
        nearest = (
            f"SELECT position FROM {self.prefix}images WHERE {condition} "
            f"ORDER BY {self.distance} LIMIT {width}"
        )
        statement = f"SELECT {IMAGE}, embedding FROM {self._joined} WHERE position IN ({nearest})"
        return ask(statement, (self._stored(vector),))

    def _stamp(self, ask):
        rows = ask(f"SELECT stamp FROM {self.prefix}gallery") if self._made(ask) else []
        return rows[0][0] if rows else None

    def _metadata(self, ask):
        check_run(self.model.parent, self.model.name)
        rows = ask(f"SELECT metadata FROM {self.prefix}gallery") if self._made(ask) else []
        if not rows:
            raise StudyError(
                f"{self}: there is no index yet; enrol.py makes it from the run's own index"
            )
        metadata = json.loads(rows[0][0])
        again = rebuild_command(self.model.parent / MADE[0], self.model)
        check_version(metadata, self, again)
        remedy = f"Delete it (docs/stores.md says how), make the run's index with: {again}"
        check_model(metadata, self, self.model, remedy)
        return metadata

    def _whole(self, ask):
        """The `Gallery`, whatever its model."""
        stamp, text, weights = ask(
            f"SELECT stamp, metadata, class_weights FROM {self.prefix}gallery"
        )[0]
        last, gallery = self._last
        if last == stamp:
            return gallery
        rows = ask(f"SELECT {IMAGE}, sha256, embedding FROM {self._joined} ORDER BY position")
        metadata, table = json.loads(text), _table([row[:5] for row in rows])
        if len(table) != metadata["images"]:
            raise StudyError(f"{self}: the tables of this index do not belong together")
        gallery = Gallery(
            np.stack([self._vector(row[-1]) for row in rows]),
            table,
            metadata,
            {row[1]: row[5] for row in rows if row[5] is not None},
            _unpacked(weights),
        )
        self._last = stamp, gallery
        return gallery

    def _make(self, ask):
        """Make the tables."""
        for statement in self.making:
            ask(statement.replace("{}", self.prefix))

    def _write(self, ask, before, after):
        """Change the tables of classes and images from ``before`` to ``after``."""
        gone, rows = difference(before, after)
        names = class_names(after)
        old = {} if before is None else class_names(before)
        for class_id, name in names.items():
            if class_id not in old:
                ask(f"INSERT INTO {self.prefix}classes VALUES (?, ?)", (class_id, name))
            elif old[class_id] != name:
                ask(
                    f"UPDATE {self.prefix}classes SET class_name = ? WHERE class_id = ?",
                    (name, class_id),
                )
        ids = [(image,) for image in gone]
        ask.many(f"DELETE FROM {self.prefix}images WHERE image_id = ?", ids)
        for class_id in old.keys() - names.keys():
            ask(f"DELETE FROM {self.prefix}classes WHERE class_id = ?", (class_id,))
        statement = (
            f"INSERT INTO {self.prefix}images (image_id, class_id, path, sha256, embedding) "
            "VALUES (?, ?, ?, ?, ?)"
        )
        added = after.table.iloc[rows]
        columns = (added[name].tolist() for name in ("image_id", "class_id", "path"))
        values = (
            (image, class_id, path, after.digests.get(image), self._stored(vector))
            for image, class_id, path, vector in zip(*columns, after.embeddings[rows], strict=True)
        )
        ask.many(statement, values)


def _table(rows):
    """The table of a gallery from rows of `IMAGE`."""
    table = pd.DataFrame(rows, columns=["position", *COLUMNS[1:]])
    return table.assign(row=np.arange(len(table)))[COLUMNS]


def _packed(arrays):
    """Arrays as the bytes of an .npz file; None for none."""
    if not arrays:
        return None
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _unpacked(content):
    if content is None:
        return {}
    with np.load(io.BytesIO(content)) as stored:
        return dict(stored)
