"""Decode a data set once into a pack of uint8 pixels."""

import argparse

from dmlstudy.core import console
from dmlstudy.data.pack import write_pack


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", required=True, help="folder that the paths in the manifest are relative to"
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--resize", required=True, help="shorter246, squash224, …")
    parser.add_argument("--max-pixels", type=int, default=100_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        # Imported here: the processes that decode import this file but do not need pandas.
        from dmlstudy.data.dataset import read_manifest

        manifest = read_manifest(args.manifest)
        with console.Progress(len(manifest), f"pack {args.resize}", "images") as progress:
            write_pack(
                args.out,
                args.images,
                manifest,
                args.resize,
                max_pixels=args.max_pixels,
                threads=args.threads,
                progress=progress,
            )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
