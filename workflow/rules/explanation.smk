# Heat maps of finished runs.


rule explain:
    input:
        unpack(lambda w: FILES.tables(STUDY.name, *CLASS_SETS)),
        unpack(lambda w: FILES.test_pack_files(w.experiment)),
        models=expand(
            f"{FILES.run_folder()}/{{class_set}}/{{file}}",
            class_set=CLASS_SETS,
            file=["model.pt", "embeddings.npz", "queries.csv"],
            allow_missing=True,
        ),
    output:
        expand(
            f"{FILES.run_folder()}/heatmaps/{{file}}",
            file=["heatmaps.csv", "heatmaps.npz", "localisation.csv"],
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/explain/{{experiment}}_seed{{seed}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        options=arguments.options(config["explanation"]),
        draws=config["evaluation"]["bootstrap_draws"],
        code=lambda w: code_digest("explain.py", *recipes.pieces(STUDY.experiments[w.experiment])),
        pack=lambda w, input: os.path.dirname(input.test_pixels),
        runs=lambda w: FILES.run_folder(w.experiment, w.seed),
        out=lambda w, output: os.path.dirname(output[0]),
    message:
        "Draw heat maps of {wildcards.experiment} (seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/explain.py" --runs {params.runs:q} --manifest {input.manifest:q} '
        "--split {input.split:q} --class-sets {input.class_set:q} --test-pack {params.pack:q} "
        "{params.options:q} --bootstrap-draws {params.draws} --out {params.out:q} --log {log:q}"
