# Which features and which way of answering serve, without training: `make quick`. Only what the page needs.


# The page for somebody's own photographs.
rule quick:
    input:
        lambda w: of_unfitted([COMBINATIONS.page()]),
    localrule: True
    message:
        "Which features and which way of answering serve"


# Before anything is computed, so that weights that cannot be had are known at once.
rule quick_weights:
    input:
        lambda w: of_unfitted(COMBINATIONS.weights()),
    localrule: True
    message:
        "The weights that all features start from"


rule compare_combinations:
    input:
        lambda w: COMBINATIONS.inputs(),
        class_sets=FILES.tables(STUDY.name, *CLASS_SETS)["class_set"],
    output:
        COMBINATIONS.tables(),
    log:
        f"{RESULTS}/logs/combinations/compare.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.compare()),
        runtime=growing(20),
    params:
        features=canonical_json(COMBINATIONS.feature_costs()),
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        code=code_digest("compare_combinations.py"),
        folder=f"{RESULTS}/experiments",
        out=lambda w, output: os.path.dirname(output[0]),
    message:
        "Compare features and ways of answering"
    shell:
        'python "$DML_SCRIPTS/compare_combinations.py" --experiments {params.folder:q} '
        "--features {params.features:q} --class-sets {input.class_sets:q} {params.bootstrap:q} "
        "--out {params.out:q} --log {log:q}"


rule quick_page:
    input:
        COMBINATIONS.tables(),
        manifest=FILES.data(STUDY.name, "manifest.csv"),
        split=FILES.data(STUDY.name, "split.csv"),
        duplicates=FILES.data(STUDY.name, "duplicates.csv"),
    output:
        page=report(
            COMBINATIONS.page(),
            category="1. Answers",
            labels={"page": "features that are not fitted"},
            caption="../report/quick.rst",
        ),
        answers=f"{RESULTS}/combinations/answers.txt",
        training=f"{RESULTS}/combinations/train.yaml",
    log:
        f"{RESULTS}/logs/combinations/page.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.index_page()),
        runtime=growing(10),
    params:
        note=lambda w: NOTE,
        facts=lambda w: canonical_json(
            quick.facts(STUDY, [str(path) for path in workflow.overwrite_configfiles])
        ),
        code=code_digest("quick_page.py", templates=["quick.html.j2"]),
        folder=lambda w, input: os.path.dirname(input[0]),
    message:
        "Build the page about features and ways of answering"
    shell:
        'python "$DML_SCRIPTS/quick_page.py" --combinations {params.folder:q} --facts {params.facts:q} '
        "--manifest {input.manifest:q} --split {input.split:q} --duplicates {input.duplicates:q} "
        "--note={params.note:q} --out {output.page:q} --out-answers {output.answers:q} "
        "--out-training {output.training:q} --log {log:q}"
