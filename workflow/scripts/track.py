"""Send one experiment, seed and class set to Weights & Biases, from the files of finished runs."""

import argparse
import json
import logging

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.track import temporary, tracking


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all-classes", required=True, help="folder of the all-classes run")
    parser.add_argument("--limited", required=True, help="folder of the limited run")
    parser.add_argument(
        "--what", required=True, type=json.loads, help="JSON: what was run (Study.tracked)"
    )
    parser.add_argument("--mode", required=True, choices=["offline", "online"])
    parser.add_argument("--project", required=True)
    parser.add_argument("--entity", help="user or team; default: the owner of the API key")
    parser.add_argument("--root", required=True, help="folder for the files of Weights & Biases")
    parser.add_argument(
        "--out", required=True, help="JSON file to write: the result of the tracking"
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        settings = {"project": args.project, "entity": args.entity}
        record = tracking.study_run(settings, args.what, args.all_classes, args.limited)
        result = {
            "mode": args.mode,
            "folder": None,
            "address": None,
            "problem": None,
            **{key: record[key] for key in ("project", "entity", "id", "name", "group")},
        }
        try:
            done = tracking.isolated(
                tracking.write_run,
                record,
                args.mode,
                args.root,
                seconds=tracking.TIMEOUTS[args.mode],
            )
        except tracking.TrackerError as error:
            result["problem"] = str(error)
            result["next"] = f"Try again with: snakemake … --forcerun {args.out}"
            logging.warning(
                "Weights & Biases: %s was not tracked: %s. The study continues. %s",
                record["name"], error, result["next"],
            )  # fmt: skip
        else:
            result |= {"folder": done["folder"], "address": done["address"]}
            if args.mode == "online":
                result["next"] = "The run was sent; there is nothing left to do."
            else:
                result["next"] = f"Send it with: wandb sync {done['folder']}"
            if done["replaced"]:
                result["next"] = (
                    f"An older version was already sent: delete run {record['id']} on the server first, "
                    f"or its history appears twice. {result['next']}"
                )
        # The process above may have been killed before it removed its temporary files.
        temporary.sweep(args.root)
        write_json(args.out, result)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
