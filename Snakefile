# Can deep metric learning replace an ordinary classifier? See README.md.
#
#   snakemake --cores all --resources gpu=1                                    the published study
#   snakemake --cores all results/experiments/NAME/report.html --resources gpu=1    one experiment
#   snakemake --cores all --resources gpu=1 --configfile config/extended.yaml   with tuned variants
#   snakemake --cores all --configfile config/demo.yaml                        the small study
#   make quick PHOTOS=path/to/photos                                           which features serve, untrained

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/project.smk"


configfile: defaults("config.yaml")
configfile: defaults("experiments.yaml")


if workflow.modifier.skip_configfile:
    config = module_config(config)


include: "workflow/rules/common.smk"


# Everything: tables, reports and the comparison page. The first rule is the default target.
rule all:
    input:
        FILES.final_targets(TRACKED),
    message:
        "The whole study"


include: "workflow/rules/data.smk"
include: "workflow/rules/initializers.smk"
include: "workflow/rules/selection.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/explanation.smk"
include: "workflow/rules/thumbnails.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/quick.smk"
include: "workflow/rules/using.smk"
include: "workflow/rules/tracking.smk"
