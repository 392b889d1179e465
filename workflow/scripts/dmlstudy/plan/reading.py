"""The study that configuration files describe, outside of Snakemake."""

from pathlib import Path

from snakemake.utils import update_config

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import shown
from dmlstudy.plan import configuration
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import in_order, read_yaml

# What Snakemake reads before the files that are given.
DEFAULTS = ("config.yaml", "experiments.yaml")


def study_of(project, files):
    """The `Study` of configuration files, as Snakemake's ``--configfile`` would read them.

    ``project``: folder that holds config/; ``files``: in the order in which they are given. Raises
    StudyError, or RecipeError, for a file that is missing or a mistake in one.
    """
    given, config = [*(Path(project) / "config" / name for name in DEFAULTS), *files], {}
    for path in given:
        if not Path(path).is_file():
            raise StudyError(f"{path}: no such configuration")
        values = read_yaml(path)
        if not isinstance(values, dict):
            raise StudyError(
                f"{path}: is {shown(values)}; must be a mapping, with keys such as protocol:"
            )
        update_config(config, values)
    names = list(map(str, given))
    configuration.validate(config, names)
    config["experiments"] = in_order(config["experiments"], "experiments", names)
    return plan(config)
