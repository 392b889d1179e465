"""Put the files of a data set together in one folder, which appears complete or not at all."""

import argparse
import json
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.data.downloads import check
from dmlstudy.data.gathering import gather


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", required=True, help="names in dataset.files")
    parser.add_argument("--files", nargs="+", required=True, help="their paths, in the same order")
    parser.add_argument(
        "--checks", default="{}", help="JSON: {name: {checksums: {algorithm: digest}, bytes}}"
    )
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument(
        "--contents", required=True, help="JSON file to write: number and total bytes of the files"
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        files = dict(zip(args.names, args.files, strict=True))
        for name, expected in json.loads(args.checks).items():
            check(files[name], expected["checksums"], expected["bytes"])
        sizes = []
        gather(files, args.out, progress=sizes.append)
        size = sum(Path(path).stat().st_size for path in args.files)
        write_json(args.contents, {"files": len(sizes), "bytes": sum(sizes), "archive_bytes": size})

    console.run(work, args.log)


if __name__ == "__main__":
    main()
