"""What the service does, without HTTP: names photographs, enrols classes, keeps doubtful answers."""

import io
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.data.images import open_rgb
from dmlstudy.evaluate.thresholds import OWN
from dmlstudy.use.index_choices import in_words as words_of_choice
from dmlstudy.use.service.answer_log import AnswerLog
from dmlstudy.use.service.doubts import Doubts, why_doubtful
from dmlstudy.use.service.drift import find_drift
from dmlstudy.use.service.engine import Engine
from dmlstudy.use.service.files import Files, Photograph
from dmlstudy.use.service.heat import HeatMaps
from dmlstudy.use.service.rates import in_words as words_of_rates
from dmlstudy.use.service.rates import measured_rates, measured_thresholds
from dmlstudy.use.service.shelf import Missing, Shelf

# Longer side of a photograph on the page, in pixels, and how many of them are kept in memory.
SIDE, REMEMBERED = 240, 500
# Photographs that are decoded for the page at a time: a large one takes hundreds of MB.
AT_ONCE = 2


class Desk:
    """A run in service. Close it at the end.

    ``run``: its folder; ``index``: its `ChangedIndex`; ``model``: a `TrainedModel`; ``images``: folder of the
    data set's images, or None; ``limits``: a `Limits`.
    """

    def __init__(self, run, index, model, images, limits):
        self.run, self.limits, self.images = Path(run), limits, images
        self.files = Files(index.out.beside)
        self.shelf = Shelf(index, self.files, model.threads)
        self.doubts = Doubts(self.files.doubts, limits.doubts)
        self.log = AnswerLog(self.files.answers, limits.logged)
        self.engine = Engine(model, self._judged, most=limits.waiting, max_pixels=limits.pixels)
        self.heat_maps = HeatMaps(index.model, limits.pixels, limits.requests)
        self._pictures, self._few = OrderedDict(), threading.Semaphore(AT_ONCE)

    def close(self):
        self.engine.close()
        self.log.close()
        self.files.close()

    def status(self):
        """What is served, and how it decides."""
        gallery = self.shelf.gallery
        threshold = gallery.metadata["threshold"]
        rates = measured_rates(self.run, threshold)
        return {
            "run": "/".join(self.run.resolve().parts[-3:]),
            "data": gallery.metadata.get("data", ""),
            "images": len(gallery.table),
            "classes": int(gallery.table["class_id"].nunique()),
            "threshold": threshold["similarity"],
            "threshold_chosen": words_of_choice(threshold, gallery.metadata.get("calibration")),
            "rates": rates,
            "rates_in_words": words_of_rates(rates),
            "waiting": self.engine.waiting,
            "doubts": len(self.doubts.rows()),
            "limits": {
                "photographs": self.limits.photographs,
                "megabytes": self.limits.megabytes,
                "photograph_megabytes": self.limits.photograph_megabytes,
            },
        }

    def name(self, photographs, *, neighbours, shown, keep):
        """Answers for photographs, in order; see `docs/service.md`. ``keep``: doubtful ones go to the list.

        Photographs of the index are not logged: they are as similar as can be. Raises `engine.Full` and
        TimeoutError.
        """
        paths = [one.path for one in photographs]
        found, problems = self.engine.answer(paths, self.limits.answer, (neighbours, shown))
        results, logged, enrolled = [], [], self.shelf.nearby.digests
        for position, one in enumerate(photographs):
            if position in problems:
                results.append({"photograph": one.name, "problem": told(problems[position], one)})
                continue
            answer = {"photograph": one.name, **found[position]}
            # A photograph of the index needs no other answer.
            if one.digest not in enrolled:
                if keep and answer["doubtful"]:
                    answer["doubt_id"] = self.doubts.add(one, answer)
                logged.append(answer)
            results.append(answer)
        self.log.add(logged)
        return results

    def _judged(self, embeddings, neighbours, shown):
        """Answers for embeddings, by the index as it is now."""
        nearby = self.shelf.nearby
        threshold = nearby.gallery.metadata["threshold"]["similarity"]
        found = zip(*nearby.classify(embeddings, neighbours, shown), strict=True)
        return [_answer(row, near, threshold) for row, near in found]

    def enrol(self, name, photographs, source, *, existing=None):
        """Enrol photographs; returns the entry of the history. StudyError if one cannot be read."""
        paths = [one.path for one in photographs]
        found, problems = self.engine.embed_in_turn(paths, self.limits.answer)
        if problems:
            lines = "; ".join(told(text, photographs[at]) for at, text in problems.items())
            raise StudyError(f"nothing was enrolled: {lines}")
        vectors = np.stack([found[position] for position in range(len(paths))])
        return self.shelf.enrol(name, photographs, vectors, source, existing=existing)

    def drift(self):
        """How the newest answers differ from those before: see `find_drift`, and ``problem`` of the log."""
        threshold = self.shelf.gallery.metadata["threshold"]["similarity"]
        found = find_drift(self.log.rows(), threshold, self._names())
        # Of photographs that were kept, some are settled by now.
        waiting = {row["doubt_id"] for row in self.doubts.rows()}
        for sign in found["signs"]:
            sign["doubts"] = [one for one in sign["doubts"] if one in waiting]
        off = "--logged is 0" if not self.limits.logged else None
        return found | {"problem": self.log.problem or off}

    def thresholds(self):
        """The thresholds that the study judged for this index, with their rates; the one in use is marked."""
        used = self.shelf.gallery.metadata["threshold"]
        rows = measured_thresholds(self.run, used.get("way", OWN))
        for one in rows:
            one["in_words"] = words_of_rates(one["rates"])
            one["in_use"] = one["accepted_share"] == used["accepted_share"]
        return rows

    def choose_threshold(self, share):
        """Decide with the threshold of another wanted share; `Missing` if the study judged none for it."""
        rows = self.thresholds()
        shares = ", ".join(f"{one['accepted_share']:g}" for one in rows)
        point = next((one for one in rows if one["accepted_share"] == share), None)
        if point is None:
            raise Missing(
                f"the study judged no threshold for the share {share:g}; it judged {shares}"
                if rows
                else "the study's table rejection_thresholds.csv has no thresholds for this index"
            )
        return self.shelf.choose_threshold(point)

    def heat_map(self, photograph, class_id):
        """Where the model looks in a photograph when it finds it like a class: (JPEG, name of the class).

        ``class_id``: None for the class of the nearest photograph.
        """
        try:
            return self.heat_maps.picture(photograph, self.shelf.gallery, class_id)
        except StudyError as error:
            raise type(error)(told(str(error), photograph)) from None

    def _names(self):
        """{class id: name} of the classes that have photographs."""
        table = self.shelf.gallery.table
        return dict(zip(table["class_id"].tolist(), table["class_name"], strict=True))

    def doubtful(self):
        """The doubtful answers, newest first, with the names that classes have now; without removed ones."""
        names = self._names()
        return [
            row
            | {
                "nearest": [
                    one | {"class_name": names[one["class_id"]]}
                    for one in row["nearest"]
                    if one["class_id"] in names
                ]
            }
            for row in self.doubts.rows()
        ]

    def doubtful_picture(self, doubt_id):
        """The photograph of a doubtful answer as a small JPEG."""
        return self.small(self.doubts.path(doubt_id))

    def settle(self, doubt_id, name):
        """Enrol a doubtful photograph in the class that a person says, and take it off the list."""
        row, path = self.doubts.row(doubt_id), self.doubts.path(doubt_id)
        entry = self.enrol(name, [Photograph.of(path, row["photograph"])], "a doubtful answer")
        self.doubts.forget(doubt_id)
        return entry

    def picture(self, image_id):
        """A photograph of the index as a small JPEG; `Missing` if it cannot be shown."""
        table = self.shelf.gallery.table
        paths = table["path"][table["image_id"] == image_id]
        if paths.empty:
            raise Missing(f"there is no photograph {image_id}")
        path = Path(paths.iloc[0])
        if not path.is_absolute():
            if self.images is None:
                raise Missing("the images of the data set are not there; give --images")
            path = self.images / path
        return self.small(path)

    def small(self, path):
        """A photograph's file as a small JPEG."""
        with self._few:
            if path in self._pictures:
                return self._pictures[path]
            try:
                image = open_rgb(path, max_pixels=self.limits.pixels)
            except StudyError:
                raise Missing("this photograph cannot be read any more") from None
            image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
            self._pictures[path] = stream.getvalue()
            if len(self._pictures) > REMEMBERED:
                self._pictures.popitem(last=False)
            return stream.getvalue()


def told(problem, photograph):
    """A problem with a file as a client may read it: with the name that the client gave."""
    text = problem.replace(str(photograph.path), photograph.name)
    return text.replace("dataset.max_pixels", "the limit")


def _answer(row, nearest, threshold):
    """The answer for one photograph, from a row of `Nearby.classify` and its neighbours."""
    probability = row["probability"]
    known = bool(row["known"])
    compared = "at least" if known else "below"
    return {
        "class_name": row["nearest_class_name"] if known else None,
        "known": known,
        "similarity": float(row["similarity"]),
        "distance": float(row["distance"]),
        "threshold": threshold,
        "probability": float(probability) if probability == probability else None,
        "vote": {
            "class_name": row["vote_class_name"],
            "votes": int(row["votes"]),
            "voters": int(row["voters"]),
        },
        "nearest": [
            {
                "image_id": int(image["image_id"]),
                "class_id": int(image["class_id"]),
                "class_name": image["class_name"],
                "similarity": similarity,
                "path": image["path"],
            }
            for image, similarity in nearest
        ],
        "why": f"the similarity to the nearest photograph, {row['similarity']:.4f}, is {compared} the "
        f"threshold, {threshold:.4f}",
        "doubtful": why_doubtful(row),
    }
