"""Make a sprite: one image with a thumbnail of each image of a data set, from a pack."""

import argparse

from dmlstudy.core import console
from dmlstudy.data.dataset import read_manifest
from dmlstudy.data.pack import Pack
from dmlstudy.pages.images import write_sprite


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--side", required=True, type=int, help="pixels")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        manifest = read_manifest(args.manifest)
        sizes = manifest["width"].to_numpy(), manifest["height"].to_numpy()
        write_sprite(args.out, Pack(args.pack), *sizes, args.side)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
