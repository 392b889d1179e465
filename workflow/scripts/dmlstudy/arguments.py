"""Command-line options of the programs that fetch and read data, from the configuration's words."""

from dmlstudy.sources import addresses, local_path


def verification(dataset):
    """What verifies the archive of a data set (its entry of the configuration)."""
    checksums = [f"{name}:{dataset[name]}" for name in ("md5", "sha256") if dataset[name]]
    size = [] if dataset["bytes"] is None else ["--bytes", str(dataset["bytes"])]
    return [*size, "--checksum", *checksums] if checksums else size


def listing(dataset):
    """How the tables and pictures of a data set (its entry of the configuration) are read."""
    options = ["--format", dataset["format"]]
    for key in ("classes", "csv", "max_pixels"):
        if dataset[key] is not None:
            options += [f"--{key.replace('_', '-')}", str(dataset[key])]
    return options


def splitting(protocol, *, own=True):
    """How images are divided; data sets that are not the study's ``own`` are always stratified."""
    options = ["--method", protocol["split"] if own else "stratified"]
    for name, key in (
        ("--test-share", "test_share"),
        ("--validation-share", "validation_share"),
        ("--seed", "split_seed"),
    ):
        options += [name, str(protocol[key])]
    return options


def published_weights(source):
    """Where published weights come from; ``source``: None for torchvision's own address."""
    if source is None:
        return []
    if addresses(source):
        return ["--url", *addresses(source)]
    return ["--local", str(local_path(source))]
