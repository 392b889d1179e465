"""Command-line options of programs, from values of the configuration."""

from dmlstudy.core.addresses import addresses, local_path


def options(values):
    """A mapping as words of a command line: ``--key value``, sorted; lists give several values.

    A value that begins with a dash is joined to its key: alone it would be taken for an option.
    """
    words = []
    for key, value in sorted(values.items()):
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, str) and value.startswith("-"):
            words.append(f"{option}={value}")
        else:
            words.append(option)
            words += [str(item) for item in (value if isinstance(value, list) else [value])]
    return words


def verification(dataset):
    """Options that verify the archive of a data set; ``dataset``: its entry of the configuration."""
    checksums = [f"{name}:{dataset[name]}" for name in ("md5", "sha256") if dataset[name]]
    size = [] if dataset["bytes"] is None else ["--bytes", str(dataset["bytes"])]
    return [*size, "--checksum", *checksums] if checksums else size


def files_verification(dataset):
    """What verifies each local file of a data set: {name: {"checksums", "bytes"}}.

    Downloads are verified when they arrive.
    """
    return {
        name: {
            "checksums": {kind: file[kind] for kind in ("md5", "sha256") if file[kind]},
            "bytes": file["bytes"],
        }
        for name, file in dataset["files"].items()
        if local_path(file["source"]) is not None
    }


def listing(dataset):
    """Options for reading the tables and images of a data set; ``dataset``: its entry."""
    keys = ("format", "classes", "csv", "max_pixels")
    return options({key: dataset[key] for key in keys if dataset[key] is not None})


def splitting(protocol, *, own=True):
    """Options for the split. Data sets that are not the study's ``own`` are always split by class."""
    return options(
        {
            "method": protocol["split"] if own else "stratified",
            "test_share": protocol["test_share"],
            "seed": protocol["split_seed"],
        }
    )


def near(protocol):
    """Options for the search for copies of photographs."""
    bits = protocol["near_duplicates"]
    return [] if bits is None else ["--near", str(bits)]


def grouping(config):
    """Options for a split in which photographs stay together; ``config``: the whole configuration."""
    protocol, table = config["protocol"], config["dataset"]["csv"]
    found = {"duplicates": protocol["duplicates"]}
    for key, value in (protocol["group_by"] or {}).items():
        if value is not None:
            found[f"group_{key}"] = value
    if table is not None and "group_column" in found:
        found["csv"] = table
    return options(found)


def weights_place(file):
    """Options for the place of a file of weights; ``file``: its entry, or None for the publisher's."""
    source = file and file["source"]
    if source is None:
        return []
    if addresses(source):
        return ["--url", *addresses(source)]
    return ["--local", str(local_path(source))]


def weights_check(file):
    """Options that verify a file of weights."""
    keys = ("sha256", "revision")
    return options({key: file[key] for key in keys if file and file[key] is not None})
