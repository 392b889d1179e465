"""The index that a service answers from and changes, and the history of its changes.

It is a store as enrol.py writes it: the other programs use it too, and their changes are seen here. The history stands
in the index's metadata, so a change and its entry are written at one moment.
"""

import contextlib
import os
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.use.answering import renewed
from dmlstudy.use.gallery import check_removable, enrol, remove_class, spelled
from dmlstudy.use.kept_photographs import HISTORY, undoable_removals
from dmlstudy.use.same_files import check_digests
from dmlstudy.use.service.nearby import Nearby

# So many of the newest changes can be undone.
UNDOABLE = 20


class Conflict(StudyError):
    """A change that the index does not allow as it is: a name that is taken, a photograph that is there."""


class Missing(StudyError):
    """A class, a photograph or a change that does not exist (any more)."""


class Shelf:
    """The index of a run. ``index``: a `ChangedIndex`; ``files``: a `Files`; ``threads``: of searches."""

    def __init__(self, index, files, threads):
        self.index, self.store = index, index.out
        self.files, self.kept, self.threads = files, files.kept, threads
        self._lock = threading.RLock()
        with self.store.changing():
            self._read()
            # Without its index, nobody can say what belongs to it.
            if self.store.exists():
                self.kept.tidy(self._nearby.gallery)

    @property
    def nearby(self):
        """The index as it is now, a `Nearby`. A change by another program is read first."""
        stamp = self.index.stamp()
        # While another thread changes the index, the one before is as good.
        if stamp not in (None, self._seen) and self._lock.acquire(blocking=False):
            try:
                with self.store.changing():
                    if self.index.stamp() != self._seen:
                        self._read()
            finally:
                self._lock.release()
        return self._nearby

    @property
    def gallery(self):
        """The `Gallery` as it is now."""
        return self.nearby.gallery

    def history(self):
        """Entries of the changes, oldest first."""
        return list(self.gallery.metadata.get(HISTORY, []))

    def classes(self):
        """Rows of the classes that have photographs: class_id, class_name, photographs, since, source."""
        gallery = self.gallery
        since, source = {}, {}
        for entry in gallery.metadata.get(HISTORY, []):
            if entry["what"] == "enrolled":
                since[entry["class_id"]], source[entry["class_id"]] = entry["time"], entry["source"]
        rows = []
        for class_id, images in gallery.table.groupby("class_id"):
            # Paths of the data set are relative to its folder.
            own = any(not os.path.isabs(path) for path in images["path"])
            rows.append(
                {
                    "class_id": int(class_id),
                    "class_name": images["class_name"].iloc[0],
                    "photographs": len(images),
                    "image_id": int(images["image_id"].iloc[0]),
                    "of_data_set": own,
                    "since": since.get(class_id),
                    "source": source.get(class_id, "the study" if own else "enrol.py"),
                }
            )
        return rows

    def enrol(self, name, photographs, embeddings, source, *, existing=None):
        """Add photographs to a class and return the entry of the history. All or none of them are added.

        ``photographs``: list of `files.Photograph`; ``existing``: whether the class must exist already, must
        not, or either (None). Raises `Conflict` for a name that does not fit, and for a photograph that is in
        the index already or twice among these.
        """
        with self._changing() as gallery:
            there = spelled(gallery.table["class_name"].tolist(), name)
            known = there in set(gallery.table["class_name"])
            if existing is False and known:
                raise Conflict(
                    f"{name!r} is already enrolled; add to that class, or choose another name"
                )
            if existing and not known:
                raise Missing(f"{name!r} is not enrolled")
            digests = [one.digest for one in photographs]
            try:
                # As `gallery.enrol` does with paths, but a client knows its photographs by name.
                check_digests(
                    gallery.table, gallery.digests, [one.name for one in photographs], digests
                )
            except StudyError as error:
                raise Conflict(str(error)) from None
            change = uuid.uuid4().hex
            paths = [self.kept.path_of(one.digest, one.name) for one in photographs]
            self.kept.note(change, paths)
            try:
                for one, path in zip(photographs, paths, strict=True):
                    self.files.keep(one, path)
                after = enrol(gallery, there, embeddings, paths, existing=known, digests=digests)
                images = after.table["image_id"].iloc[len(gallery.table) :]
                entry = self._entry(
                    "added" if known else "enrolled",
                    after.table["class_id"].iloc[-1],
                    there,
                    id=change,
                    source=source,
                    images=[int(one) for one in images],
                )
                return self._write(after, entry)
            except BaseException:
                # Unless the index has them already.
                if self.index.stamp() == self._seen:
                    self.kept.tidy(gallery)
                raise

    def rename(self, class_id, name):
        """Give a class another name; returns the entry of the history."""
        with self._changing() as gallery:
            old = self._name_of(gallery, class_id)
            entry = self._entry("renamed", class_id, name, before=old)
            return self._write(_renamed(gallery, class_id, name), entry)

    def remove(self, class_id):
        """Remove a class with its photographs; returns the entry of the history."""
        with self._changing() as gallery:
            name = self._name_of(gallery, class_id)
            gone = (gallery.table["class_id"] == class_id).to_numpy()
            try:
                check_removable(gallery.table, gallery.metadata, name)
            except StudyError as error:
                raise Conflict(str(error)) from None
            entry = self._entry("removed", class_id, name, photographs=int(gone.sum()))
            images = gallery.table["image_id"][gone].tolist()
            self.kept.set_aside(
                entry["id"],
                gallery.embeddings[gone],
                gallery.table[gone],
                {one: gallery.digests[one] for one in images if one in gallery.digests},
            )
            return self._write(remove_class(gallery, name), entry)

    def choose_threshold(self, point):
        """Decide with another threshold, one of `rates.measured_thresholds`; returns the entry of the history."""
        with self._changing() as gallery:
            before = gallery.metadata["threshold"]
            share = point["accepted_share"]
            if share == before["accepted_share"]:
                raise Conflict(f"the threshold for {100 * share:g} % is in use already")
            after = before | {"similarity": point["similarity"], "accepted_share": share}
            entry = self._entry(
                f"threshold for {100 * share:g} % chosen",
                before=f"{100 * before['accepted_share']:g} %",
                threshold_before=before,
            )
            return self._write(_with_threshold(gallery, after), entry)

    def undo(self):
        """Undo the newest change and return its entry; `Missing` if there is none that can be undone."""
        with self._changing() as gallery:
            history = list(gallery.metadata.get(HISTORY, []))
            undoable = [entry for entry in history if entry.get("undoable", True)]
            if not undoable:
                raise Missing("there is no change that can be undone")
            entry = undoable[-1]
            if "threshold_before" in entry:
                after = _with_threshold(gallery, entry["threshold_before"])
            elif entry["what"] == "renamed":
                # Another program may have removed the class since; its name must not come back.
                there = (gallery.table["class_id"] == entry["class_id"]).any()
                after = _renamed(gallery, entry["class_id"], entry["before"]) if there else gallery
            elif entry["what"] == "removed":
                after = self._restored(gallery, entry)
            else:
                after = _without(gallery, entry["images"])
            gone = set(gallery.table["path"]) - set(after.table["path"])
            if gone:
                self.kept.note(entry["id"], gone)
            history.remove(entry)
            self._write(replace(after, metadata={**after.metadata, HISTORY: history}))
            return entry

    def removed(self):
        """What is kept of no class: ``classes`` (names) whose removal can be undone, number of ``photographs``."""
        # An enrolment that is at work keeps photographs before the index has them.
        with self._lock:
            return self._removed(self.gallery)

    def forget_removed(self):
        """Delete what `removed` says, and return it. Changes up to the newest removal cannot be undone then."""
        with self._changing() as gallery:
            found, removals = self._removed(gallery), list(undoable_removals(gallery))
            if removals:
                history = gallery.metadata[HISTORY]
                newest = [one["id"] for one in history].index(removals[-1])
                history = [
                    {**one, "undoable": False} if at <= newest else one
                    for at, one in enumerate(history)
                ]
                self._write(replace(gallery, metadata={**gallery.metadata, HISTORY: history}))
            self.kept.delete_all_of_no_class(self._nearby.gallery)
            return found

    @contextlib.contextmanager
    def _changing(self):
        """Nobody else changes the index meanwhile; gives the `Gallery` as it is stored."""
        with self._lock, self.store.changing():
            if self.index.stamp() != self._seen:
                self._read()
            yield self._nearby.gallery

    def _restored(self, gallery, entry):
        """The gallery with a removed class again."""
        embeddings, table, digests = self.kept.taken_back(entry["id"])
        name, class_id = entry["class_name"], entry["class_id"]
        _refuse_taken(gallery, class_id, name)
        _refuse_enrolled(gallery, name, digests)
        names = list(gallery.metadata["class_names"])
        names[class_id] = name
        table = pd.concat([gallery.table, table], ignore_index=True)
        # Images keep their ids, so ties are decided as before.
        return replace(
            gallery,
            embeddings=np.concatenate([gallery.embeddings, embeddings]),
            table=table.assign(row=np.arange(len(table))),
            metadata={**gallery.metadata, "class_names": names, "images": len(table)},
            digests=gallery.digests | digests,
        )

    def _name_of(self, gallery, class_id):
        names = gallery.table["class_name"][gallery.table["class_id"] == class_id]
        if names.empty:
            raise Missing(f"there is no class {class_id}")
        return names.iloc[0]

    def _entry(self, what, class_id=None, class_name=None, **more):
        time = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"id": uuid.uuid4().hex, "time": time, "what": what}
        if class_id is not None:
            head |= {"class_id": int(class_id), "class_name": class_name}
        return {**head, **more}

    def _write(self, gallery, entry=None):
        if entry is not None:
            history = [*gallery.metadata.get(HISTORY, []), entry]
            past = len(history) - UNDOABLE
            history = [
                {**one, "undoable": False} if at < past else one for at, one in enumerate(history)
            ]
            gallery = replace(gallery, metadata={**gallery.metadata, HISTORY: history})
        self.store.write(gallery)
        # As another start would read it.
        self._read()
        self.kept.tidy(self._nearby.gallery)
        return entry

    def _removed(self, gallery):
        return {
            "classes": list(undoable_removals(gallery).values()),
            "photographs": len(self.kept.of_no_class(gallery)),
        }

    def _read(self):
        # The stamp first: if another program changes the index in between, it is only read once more.
        seen = self.index.stamp()
        self._nearby, self._seen = Nearby(self.index.start.read(), self.threads), seen


def _refuse_taken(gallery, class_id, name):
    others = enumerate(gallery.metadata["class_names"])
    others = [other for index, other in others if other is not None and index != class_id]
    if spelled(others, name) in others:
        raise Conflict(f"another class is, or was, called {name!r}; choose another name")


def _refuse_enrolled(gallery, name, digests):
    """Raise `Conflict` if a photograph of a removed class is in the index again: no answer counts one twice."""
    images = {digest: image for image, digest in gallery.digests.items()}
    there = [images[digest] for digest in digests.values() if digest in images]
    if there:
        classes = gallery.table["class_name"][gallery.table["image_id"].isin(there)].unique()
        raise Conflict(
            f"{name!r} cannot come back: {len(there)} of its photographs are now enrolled as "
            f"{first_of(map(repr, classes))}; remove that class first, or delete for good what is kept of removed "
            "classes"
        )


def _with_threshold(gallery, threshold):
    return replace(gallery, metadata={**gallery.metadata, "threshold": threshold})


def _renamed(gallery, class_id, name):
    _refuse_taken(gallery, class_id, name)
    names = list(gallery.metadata["class_names"])
    names[class_id] = name
    own = gallery.table["class_id"] == class_id
    table = gallery.table.assign(class_name=gallery.table["class_name"].mask(own, name))
    return replace(gallery, table=table, metadata={**gallery.metadata, "class_names": names})


def _without(gallery, images):
    """The gallery without some images, given by their ids. A class without images is removed."""
    gone = gallery.table["image_id"].isin(images).to_numpy()
    names = set(gallery.table["class_name"][gone]) - set(gallery.table["class_name"][~gone])
    for name in names:
        gallery = remove_class(gallery, name)
    gone = gallery.table["image_id"].isin(images).to_numpy()
    if not gone.any():
        return gallery
    table = gallery.table[~gone].reset_index(drop=True)
    ids = set(table["image_id"].tolist())
    return renewed(
        replace(
            gallery,
            embeddings=gallery.embeddings[~gone],
            table=table.assign(row=np.arange(len(table))),
            metadata={**gallery.metadata, "images": len(table)},
            digests={one: digest for one, digest in gallery.digests.items() if one in ids},
        )
    )
