"""Serve a finished run: a page and an HTTP API that name photographs and learn classes from photographs."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_input, check_number
from dmlstudy.use.changed_index import ChangedIndex, add_options
from dmlstudy.use.run_data import data_of
from dmlstudy.use.service.limits import Limits

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "DML_SERVICE_TOKEN"
TOKEN_LENGTH = 16


def read_token(path):
    """The token that clients must show: the first line of a file, or the variable; None if there is none."""
    if path is not None:
        check_input("--token-file", path)
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        token = lines[0].strip() if lines else ""
    else:
        token = os.environ.get(TOKEN, "").strip() or None
    if token is not None and not (
        len(token) >= TOKEN_LENGTH and token.isascii() and token.isprintable() and " " not in token
    ):
        raise StudyError(
            f"the token must have at least {TOKEN_LENGTH} characters, ASCII letters and digits; "
            'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return token


def folder_of_images(run, given):
    """The folder of the data set's images, for the page; None if they are not there."""
    if given is not None:
        check_input("--images", given, folder=True)
        return given
    try:
        images = data_of(run) / "images"
    except StudyError:
        return None
    return images if images.is_dir() else None


def main():
    default = Limits()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address; any but this machine's own needs a token (127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (8000)")
    parser.add_argument(
        "--token-file",
        help=f"file with the token that clients must show; or set the variable {TOKEN}",
    )
    add_options(parser)
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of the data set's images, to show them (default: where the study keeps them)",
    )
    options = {
        "photographs": "photographs in one request",
        "megabytes": "MB in one request",
        "photograph-megabytes": "MB of one photograph",
        "pixels": "pixels of one photograph, like dataset.max_pixels",
        "waiting": "photographs that may wait",
        "requests": "requests at once",
        "doubts": "doubtful answers that are kept, with their photographs; 0: none",
        "logged": "answers in the log that shows drift; 0: none",
    }
    for name, text in options.items():
        value = getattr(default, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=value, help=f"most {text} ({value})")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        values = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in options}
        for name in options:
            least = 0 if name in ("doubts", "logged") else 1
            check_number(f"--{name}", values[name.replace("-", "_")], least=least)
        check_number("--port", args.port, least=0, most=65535)
        token = read_token(args.token_file)
        if args.host not in LOOPBACK and token is None:
            raise StudyError(
                f"--host {args.host}: others could reach the service, so it needs a token: give --token-file"
            )
        index = ChangedIndex(args)
        images = folder_of_images(args.run.resolve(), args.images)

        from dmlstudy.use.service.server import listen, make_server, run

        opened = listen(args.host, args.port)
        # Imported here because torch takes seconds to start: report mistakes before.
        from threadpoolctl import threadpool_limits

        from dmlstudy.use.service.api import make_app
        from dmlstudy.use.service.desk import Desk
        from dmlstudy.use.trained_model import TrainedModel

        model = TrainedModel(index.model)
        # NumPy's own threads would wait for cores that the threads of the service use.
        threadpool_limits(model.threads, user_api="blas")
        desk = Desk(args.run, index, model, images, Limits(**values))
        shown = f"[{args.host}]" if ":" in args.host else args.host
        print(f"http://{shown}:{opened.getsockname()[1]} (end with Ctrl+C)", flush=True)
        run(make_server(make_app(desk, token)), opened)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
