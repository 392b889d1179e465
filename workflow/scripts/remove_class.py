"""Remove a class from an index, with all of its photographs. Nothing is trained."""

import argparse
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.use.changed_index import ChangedIndex, add_options
from dmlstudy.use.gallery import check_removable, remove_class
from dmlstudy.use.photographs import class_name_of


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument("--name", required=True, help="name of the class")
    add_options(parser)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        name = class_name_of(args.name)
        index = ChangedIndex(args)
        table = index.start.table()
        name = check_removable(table, index.start.metadata(), name)
        held = int((table["class_name"] == name).sum())
        gallery = index.change(partial(remove_class, name=name))
        print(
            f"{index.out}: {name} is removed, with {held} photographs; the index has "
            f"{gallery.table['class_id'].nunique()} classes and {len(gallery.table)} images"
        )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
