# Tables of the whole study, and pages. All are made from tables.


rule describe:
    input:
        unpack(lambda w: FILES.chosen_values(w.experiment)),
    output:
        f"{RESULTS}/experiments/{{experiment}}/config.yaml",
    log:
        f"{RESULTS}/logs/describe/{{experiment}}.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        recipe=lambda w: canonical_json(wording.description(STUDY, w.experiment)),
        code=code_digest("describe.py"),
        chosen=chosen_option,
    message:
        "Write down the recipe of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/describe.py" --recipe {params.recipe:q} {params.chosen:q} --out {output:q} '
        "--log {log:q}"


# Parameters, operations and milliseconds a photograph. It needs no photographs and no weights.
rule measure_models:
    input:
        list(FILES.model_inputs().values()),
    output:
        FILES.model_costs(),
    log:
        f"{RESULTS}/logs/comparison/measure_models.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.measure_models()),
        runtime=growing(30),
    params:
        models=canonical_json(STUDY.models),
        chosen=lambda w: canonical_json(FILES.model_inputs()),
        numerics=[
            "--device",
            config["device"],
            "--precision",
            PROTOCOL["precision"],
            "--threads",
            THREADS,
        ],
        code=code_digest("measure_models.py", *STUDY.model_pieces),
    message:
        "Measure the models"
    shell:
        'python "$DML_SCRIPTS/measure_models.py" --models {params.models:q} --chosen {params.chosen:q} '
        "{params.numerics:q} --out {output:q} --log {log:q}"


rule compare:
    input:
        expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            experiment=STUDY.experiments,
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            table=["summary.json", "queries.csv", "curves.csv", "cost.json"],
        ),
        expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            experiment=STUDY.experiments,
            seed=STUDY.seeds,
            class_set=STUDY.limited,
            table=["scalars.json", "enrolment.csv", "rejection.csv"],
        ),
        expand(
            f"{RESULTS}/experiments/{{experiment}}/{{table}}",
            experiment=STUDY.experiments,
            table=[
                "summary.csv",
                "health.csv",
                "answers.csv",
                "answers_costs.csv",
                "rejection_scores.csv",
                "rejection_thresholds.csv",
                "answers_hits.npz",
            ],
        ),
        start_cost_files(FILES),
        class_sets=FILES.tables(STUDY.name, *CLASS_SETS)["class_set"],
        models=FILES.model_costs(),
    output:
        [
            report(
                path,
                category="2. Tables",
                labels={"table": Path(path).stem.replace("_", " "), "of": "all experiments"},
                caption=f"../report/{'health' if Path(path).stem == 'health' else 'table'}.rst",
            )
            for path in FILES.comparison_tables()
        ],
    log:
        f"{RESULTS}/logs/comparison/compare.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.compare()),
        runtime=growing(20),
    params:
        rows=lambda w: canonical_json(wording.rows(STUDY)),
        pretraining=lambda w: canonical_json(wording.pretraining(STUDY)),
        starts=lambda w: canonical_json(start_costs(FILES)),
        seeds=STUDY.seeds,
        baseline=config["baseline"],
        data=DATA,
        published=[file_digest(path) for path in PUBLISHED.values()],
        reproduction=lambda w: canonical_json(reproduction(STUDY, PUBLISHED_RECIPES)),
        size=[PUBLISHED_RECIPES["dataset"][key] for key in ("gallery", "queries")],
        margin=config["evaluation"]["equivalence_margin"],
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        code=code_digest("compare.py"),
        folder=lambda w: f"{RESULTS}/experiments",
        out=lambda w, output: os.path.dirname(output[0]),
    message:
        "Compare all experiments"
    shell:
        'python "$DML_SCRIPTS/compare.py" --experiments {params.folder:q} --rows {params.rows:q} '
        "--pretraining {params.pretraining:q} "
        "--seeds {params.seeds} --class-sets {input.class_sets:q} --baseline {params.baseline:q} "
        "--model-costs {input.models:q} --start-costs {params.starts:q} "
        '--data {params.data:q} --published "$DML_CONFIG/published.csv" '
        '--published-deductions "$DML_CONFIG/published_deductions.csv" '
        "--reproduction {params.reproduction:q} --published-size {params.size} "
        "--equivalence-margin {params.margin} {params.bootstrap:q} --out {params.out:q} --log {log:q}"


rule index_page:
    input:
        FILES.comparison_tables(),
        recipes=expand(
            f"{RESULTS}/experiments/{{experiment}}/config.yaml", experiment=STUDY.experiments
        ),
        study=ancient(CLAIM),
        manifest=FILES.data(STUDY.name, "manifest.csv"),
        split=FILES.data(STUDY.name, "split.csv"),
        queries=expand(
            f"{FILES.run_folder()}/{{class_set}}/queries.csv",
            experiment=STUDY.experiments,
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
        ),
        class_sets=FILES.tables(STUDY.name, *CLASS_SETS)["class_set"],
        pixels=ancient(f"{FILES.test_pack(next(iter(STUDY.experiments)))}/pixels.bin"),
        pack_digest=f"{FILES.test_pack(next(iter(STUDY.experiments)))}/pixels.bin.sha256",
    output:
        report(
            FILES.index_page(),
            category="1. Answers",
            labels={"page": "all experiments"},
            caption="../report/comparison.rst",
        ),
        [
            report(
                f"{RESULTS}/comparison/plot_{name}.html",
                category="1. Answers",
                labels={"plot": name},
                caption="../report/plot.rst",
            )
            for name in ("drop", "curves", "enrolment")
        ],
    log:
        f"{RESULTS}/logs/comparison/index.log",
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
        links=links(
            **{
                name: (f"../experiments/{quote(name)}/report.html", FILES.report_page(name))
                for name in STUDY.experiments
            }
        ),
        code=code_digest(
            "compare_page.py",
            templates=["index.html.j2", "plot.html.j2", "plot_drop.html.j2", "verdict.html.j2"],
        ),
        results=lambda w: RESULTS,
        seeds=STUDY.seeds,
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        # The page links to it, and can be made before it is.
        thumbnails=lambda w: f"{FILES.test_pack(next(iter(STUDY.experiments)))}_thumbnails.webp",
        pack=lambda w, input: os.path.dirname(input.pixels),
        folder=lambda w, input: os.path.dirname(input[0]),
    message:
        "Build the page that compares all experiments"
    shell:
        'python "$DML_SCRIPTS/compare_page.py" --comparison {params.folder:q} '
        "--results {params.results:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-sets {input.class_sets:q} --seeds {params.seeds} {params.bootstrap:q} --pack {params.pack:q} "
        "--thumbnails {params.thumbnails:q} --note={params.note:q} --links {params.links:q} "
        "--out {params.folder:q} --log {log:q}"


rule report_page:
    input:
        tables=expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            table=[
                "curves.csv",
                "queries.csv",
                "confusions.csv",
                "metrics.csv",
                "classification_report.csv",
                "summary.json",
            ],
            allow_missing=True,
        ),
        comparisons=expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=STUDY.limited,
            table=[
                "comparison_all_classes.csv",
                "neighbours.csv",
                "enrolment.csv",
                "rejection.csv",
                "rejection_curve.csv",
                "scalars.json",
            ],
            allow_missing=True,
        ),
        maps=FILES.maps(),
        heatmaps=expand(
            f"{FILES.run_folder(seed=STUDY.seeds[0])}/heatmaps/{{file}}",
            file=["heatmaps.csv", "heatmaps.npz", "localisation.csv"],
            allow_missing=True,
        ),
        summary=f"{RESULTS}/experiments/{{experiment}}/summary.csv",
        health=f"{RESULTS}/experiments/{{experiment}}/health.csv",
        answers=FILES.answer_tables(),
        rejection=expand(
            f"{RESULTS}/experiments/{{experiment}}/rejection_{{table}}.csv",
            table=["scores", "thresholds"],
            allow_missing=True,
        ),
        recipe=f"{RESULTS}/experiments/{{experiment}}/config.yaml",
        costs=expand(
            f"{FILES.run_folder()}/{{class_set}}/cost.json",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            allow_missing=True,
        ),
        compared=lambda w: FILES.compared_inputs(
            [
                row["experiment"]
                for row in wording.beside(STUDY, w.experiment)
                if row["experiment"] != w.experiment
            ]
        ),
        study=ancient(CLAIM),
        class_sets=FILES.tables(STUDY.name, *CLASS_SETS)["class_set"],
        manifest=FILES.data(STUDY.name, "manifest.csv"),
        split=FILES.data(STUDY.name, "split.csv"),
        pixels=lambda w: ancient(f"{FILES.test_pack(w.experiment)}/pixels.bin"),
        pack_digest=lambda w: f"{FILES.test_pack(w.experiment)}/pixels.bin.sha256",
        thumbnails=lambda w: f"{FILES.test_pack(w.experiment)}_thumbnails.webp",
    output:
        page=report(
            FILES.report_page("{experiment}"),
            category="3. Pages",
            labels={"experiment": "{experiment}"},
            caption="../report/experiment.rst",
        ),
        # Heat maps and maps, for the page of all experiments.
        beside=f"{RESULTS}/experiments/{{experiment}}/beside.js",
    log:
        f"{RESULTS}/logs/report/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.report()),
        runtime=growing(10),
    params:
        note=lambda w: NOTE,
        seeds=STUDY.seeds,
        links=links(index=("../../comparison/index.html", FILES.index_page())),
        rows=lambda w: canonical_json(wording.beside(STUDY, w.experiment)),
        baseline=config["baseline"],
        near=arguments.near(PROTOCOL),
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        code=code_digest("report.py", templates=["report*.html.j2"]),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
        pack=lambda w, input: os.path.dirname(input.pixels),
    message:
        "Build the report of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/report.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--class-sets {input.class_sets:q} --manifest {input.manifest:q} --split {input.split:q} --pack {params.pack:q} "
        "--thumbnails {input.thumbnails:q} --note={params.note:q} --links {params.links:q} "
        "--study {input.study:q} --rows {params.rows:q} --baseline {params.baseline:q} {params.bootstrap:q} "
        "{params.near:q} --out {output.page:q} --out-beside {output.beside:q} --log {log:q}"
