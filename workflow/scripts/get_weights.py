"""Get weights of a backbone, from the network or a local file, and verify them.

Writes the file as it is, its SHA-256 beside it, and where it came from (a .json file).
"""

import argparse
import logging
import shutil
from pathlib import Path

from dmlstudy.core import console, registry
from dmlstudy.core.addresses import without_secrets
from dmlstudy.core.files import StudyError, atomic_path, file_digest, write_digest, write_json
from dmlstudy.data import hub
from dmlstudy.data.downloads import check, download
from dmlstudy.data.weights import HubWeights


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", required=True)
    parser.add_argument(
        "--kind",
        required=True,
        choices=("published", "file"),
        help="published: what the backbone's library publishes; file: any file",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--local", help="local file, or folder of a hub's repository")
    place.add_argument("--url", nargs="+", help="addresses to try in order")
    parser.add_argument("--sha256", help="of the file; a file of one's own at an address needs it")
    parser.add_argument("--revision", help="commit of the hub's repository; none: the newest")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        if args.kind == "file":
            digits, published = args.sha256, None
            if not (args.local or args.url):
                raise StudyError(f"{args.backbone}: say where its weights are: --local or --url")
        else:
            published = registry.backbone_module(args.backbone).published(args.backbone)
            on_hub = isinstance(published, HubWeights)
            digits = args.sha256 if on_hub else published.digits
        if args.local:
            source = copy(args.local, published, digits, args.out)
        elif args.url or not isinstance(published, HubWeights):
            source = fetch(args.url or [published.address], digits, args)
        else:
            source = fetch_from_hub(published, args)
        digest = file_digest(args.out)
        write_digest(args.out, digest)
        write_json(f"{args.out}.json", {"backbone": args.backbone, "sha256": digest, **source})

    console.run(work, args.log)


def copy(local, published, digits, out):
    """Copy a local file (or the one of a folder that is a copy of the hub's) to ``out``."""
    path = Path(local)
    if path.is_dir() and isinstance(published, HubWeights):
        path = path / published.file
    if not path.is_file():
        wanted = getattr(published, "address", None) or getattr(published, "repository", None)
        hint = f"; it should be a copy of {wanted}" if wanted else ""
        raise StudyError(f"{path}: not there{hint}")
    with atomic_path(out) as temporary:
        # The copy is verified, since the original may change in between.
        shutil.copyfile(path, temporary)
        if digits:
            check(temporary, {"sha256": digits}, name=path)
        else:
            logging.info("%s: not verified, because no SHA-256 is given", path)
    return {"local": path.name}


def fetch(urls, digits, args):
    if not digits:
        raise StudyError(
            f"{args.backbone}: {without_secrets(urls[0])} needs the SHA-256 of its file, so that "
            "what arrives can be verified; give sha256 in the configuration"
        )
    with console.Transfer(args.backbone) as progress:
        download(urls, args.out, {"sha256": digits}, progress=progress)
    return {"addresses": [without_secrets(url) for url in urls]}


def fetch_from_hub(published, args):
    found = hub.find(published.repository, published.file, args.revision)
    if args.sha256 and not found.sha256.startswith(args.sha256):
        raise StudyError(
            f"{found.address}: the hub states SHA-256 {found.sha256}, but {args.sha256} was expected"
        )
    if args.revision is None:
        logging.warning(
            "%s: the newest commit is %s; `revision` in the configuration pins it",
            published.repository,
            found.commit,
        )
    with console.Transfer(args.backbone) as progress:
        hub.fetch(found, args.out, progress)
    return {
        "repository": published.repository,
        "file": published.file,
        "revision": found.commit,
    }


if __name__ == "__main__":
    main()
