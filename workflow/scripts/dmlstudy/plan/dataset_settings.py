"""The configuration's types of data sets."""

from typing import Annotated

from annotated_types import Ge, Le, MinLen
from pydantic import Field, StringConstraints

from dmlstudy.plan.setting_types import (
    MD5,
    SHA256,
    Name,
    Seed,
    Source,
    Strict,
    Text,
    whole,
)


class Drawn(Strict):
    """Synthetic birds in place of a source."""

    classes: whole(Ge(2)) = Field(description="Number of species.")
    images_per_class: whole(Ge(2)) = Field(description="Images of each species.")
    image_size: whole(Ge(16), Le(4096)) = Field(description="Shorter side in pixels.")
    seed: Seed = Field(description="Seed of species and images.")
    first_class: whole(Ge(0)) = Field(
        0, description="First species; other numbers give other species."
    )
    classes_per_genus: whole(Ge(1), Le(16)) = Field(
        4, description="Species per genus; those of one genus differ in a few traits."
    )


class DataFile(Strict):
    """One file of a data set that consists of several."""

    source: Source = Field(
        description="An address, or a list of addresses that are tried in order; or a local file."
    )
    md5: Annotated[str, StringConstraints(pattern=MD5)] | None = Field(
        None, description="MD5 of the file, downloaded or local."
    )
    sha256: Annotated[str, StringConstraints(pattern=SHA256)] | None = Field(
        None, description="SHA-256 of the file, downloaded or local."
    )
    bytes: whole(Ge(1), Le(2**50)) | None = Field(
        None, description="Size of the file; another size is refused before the download."
    )


class OtherDataset(Strict):
    """A data set that only initializers are trained on."""

    format: Text = Field(
        description="Layout: `folders` (a folder per class), `csv` (a table of paths and labels), or "
        "that of a published data set: `cub` (CUB-200-2011), `cars196`, `online_products`, `inshop`, "
        "`hotels50k`, `flowers102`, `pets`, `aircraft`, `food101`."
    )
    source: Source | None = Field(
        None,
        description="An address, or a list of addresses of one archive, tried in order; or one local "
        "archive (tar, zip) or folder. Relative paths start at the working directory; `file:` may "
        "stand before a path. With a checksum, results belong to the archive; without one, they belong "
        "to its address. Passwords and queries in an address are recorded only as a digest, but "
        "Snakemake records the command lines of jobs: put passwords into `~/.netrc`.",
    )
    files: Annotated[dict[Name, DataFile], MinLen(1)] | None = Field(
        None,
        description="In place of `source`, for a data set of several files: name → where it is. Each "
        "file is downloaded and verified by itself. Archives (names ending in `.tar`, `.tgz`, `.tar.gz`, "
        "`.tar.bz2`, `.tar.xz` or `.zip`) are unpacked into one folder. Other files are put beside "
        "them, under their names here.",
    )
    csv: Text | None = Field(
        None,
        description="`csv` only: name of the table in the archive or folder. Default: the only `.csv` "
        "file at its top.",
    )
    md5: Annotated[str, StringConstraints(pattern=MD5)] | None = Field(
        None, description="MD5 of the archive, downloaded or local. A folder has none."
    )
    sha256: Annotated[str, StringConstraints(pattern=SHA256)] | None = Field(
        None, description="SHA-256 of the archive, downloaded or local. A folder has none."
    )
    bytes: whole(Ge(1), Le(2**50)) | None = Field(
        None, description="Size of the archive; another size is refused before the download."
    )
    classes: whole(Ge(2)) | None = Field(
        None,
        description="Required number of classes; null for any. With a number, more mistakes are found "
        "before the first job.",
    )
    images: whole(Ge(1), Le(2**31)) | None = Field(
        None,
        description="About how many images there are, for estimates of memory and time before they are "
        "listed.",
    )
    max_pixels: whole(Ge(1), Le(10**10)) = Field(
        100_000_000, description="Images with more pixels are refused."
    )
    drawn: Drawn | None = Field(
        None, description="Draw synthetic birds instead of reading a source."
    )


class Dataset(OtherDataset):
    """The images that the study is about."""

    name: Name = Field(description="Name of the folder under `results_dir/data`.")
