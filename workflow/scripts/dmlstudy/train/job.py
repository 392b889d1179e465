"""What the programs that train have in common: options, stored state, a GPU, progress."""

import argparse
from pathlib import Path

from dmlstudy.compute import gpu_slots
from dmlstudy.core import console
from dmlstudy.core.files import follower, read_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.pack import Pack, digest_files
from dmlstudy.plan.recipe import Recipe, recipe_option
from dmlstudy.train.resume import saved_state
from dmlstudy.train.trainer import Trainer

DATASET_TABLES = {
    "manifest": "table of all images",
    "split": "table of the split",
    "class_set": "table of the classes to train on",
}


class Packs:
    """The images of a training: a pack to train on and a pack to embed."""

    trainer = Trainer

    def __init__(self, args):
        self.folders = args.train_pack, args.test_pack

    @staticmethod
    def add_options(options):
        options.add_argument("--train-pack", required=True, help="folder of the training pack")
        options.add_argument("--test-pack", required=True, help="folder of the test pack")

    @property
    def test_resize(self):
        """How photographs are resized for the model, such as ``shorter224``."""
        return Path(self.folders[1]).name.removeprefix("pack_")

    def files(self):
        """Small files that identify the content: {name: path}."""
        return digest_files(*self.folders)

    def sizes(self):
        """Bytes that would be in the memory of a GPU."""
        return [(Path(folder) / "pixels.bin").stat().st_size for folder in self.folders]

    def open(self):
        """(training images, test images), as the trainer takes them."""
        return tuple(map(Pack, self.folders))


def parser(description, name, tables, source=Packs):
    """Options of a program that trains. ``tables``: {name of an input table: what it is}."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--recipe", required=True, type=recipe_option, help="recipe as JSON")
    options.add_argument("--chosen", help="chosen.json of a selection; it completes the recipe")
    options.add_argument("--name", default=name, help="what progress and messages call it")
    for table, what in tables.items():
        options.add_argument(f"--{table.replace('_', '-')}", required=True, help=what)
    source.add_options(options)
    options.add_argument("--weights", help="backbone weights to start from; default: random")
    options.add_argument(
        "--code", default="", help="digest of the code; state stored by other code is not used"
    )
    options.add_argument(
        "--checkpoint-every", type=int, default=1, help="epochs between stored states"
    )
    options.add_argument("--log", help="file for messages")
    return options


def recipe_of(args):
    """The `Recipe` of the options, completed by the values that a selection chose."""
    chosen = read_json(args.chosen)["recipe"] if args.chosen else {}
    return Recipe.from_dict({**args.recipe, **chosen}, source="--recipe")


def run(args, recipe, tables, state, train, write, after_epoch=None, *, source=Packs):
    """Train, and write the outputs.

    ``args``, ``tables``, ``source``: of `parser`. ``state``: folder for the stored state; it is no declared
    output, since Snakemake removes those before a job. ``train(train_pack, test_pack, weights,
    on_epoch, saved)`` trains, goes on from ``saved`` and stores its state there. ``write(result)``
    writes what it returns; the stored state is removed afterwards. ``after_epoch(row)`` is called with
    each row of the curve, those of an interrupted attempt first.
    """
    end_at_signals()
    images = source(args)
    files = {
        **{table: getattr(args, table) for table in tables},
        "weights": args.weights and follower(args.weights),
        **images.files(),
    }
    with saved_state(state, recipe.as_dict(), args.code, files, args.checkpoint_every) as saved:
        # Not earlier: an older process of this run, told to end by now, may hold the card.
        gpu_slots.take_for(recipe, *images.sizes())
        total = max(1, recipe.epochs)
        with console.Progress(total, args.name, "epochs", done=len(saved.curve)) as progress:
            if after_epoch:
                for row in saved.curve:
                    after_epoch(row)

            def on_epoch(row, images_per_second):
                if after_epoch:
                    after_epoch(row)
                progress(max(1, row["epoch"]) - progress.done, words_of(row, images_per_second))

            result = train(*images.open(), args.weights, on_epoch, saved)
        saved.check_outputs()
        write(result)


def words_of(row, images_per_second):
    """A row of the curve as progress shows it. ``images_per_second``: None if nothing was trained."""
    words = []
    if row["train_loss"] is not None:
        words.append(f"loss {row['train_loss']:.4f}")
    if row.get("test_accuracy") is not None:
        words.append(f"accuracy {row['test_accuracy']:.3f}")
    if images_per_second is not None:
        words.append(f"{images_per_second:.0f} images/s")
    return ", ".join(words)


def state_beside(path):
    """Folder of the stored state of a training whose main output is the file ``path``."""
    path = Path(path)
    return path.with_name(f"{path.stem}_state")
