# A model per experiment, class set and seed.


rule train:
    input:
        unpack(lambda w: FILES.run_inputs(w.experiment, w.class_set, w.seed)),
    output:
        model=f"{FILES.run_folder()}/{{class_set}}/model.pt",
        embeddings=f"{FILES.run_folder()}/{{class_set}}/embeddings.npz",
        curve=f"{FILES.run_folder()}/{{class_set}}/curves.csv",
        cost=f"{FILES.run_folder()}/{{class_set}}/cost.json",
    log:
        f"{RESULTS}/logs/train/{{experiment}}_seed{{seed}}_{{class_set}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(3000 if GPU == 0 else 8000),
        runtime=growing(480),
    params:
        recipe=lambda w: canonical_json(
            STUDY.known(w.experiment, STUDY.run_recipe(w.experiment, int(w.seed)))
        ),
        code=lambda w: code_digest("train.py", *recipes.pieces(STUDY.experiments[w.experiment])),
        start=lambda w, input: weights_option(w, input) + chosen_option(w, input),
        train_pack=lambda w, input: os.path.dirname(input.train_pixels),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
        folder=lambda w, output: os.path.dirname(output.model),
        checkpoint_every=checkpoint_every,
    message:
        "Train {wildcards.experiment} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/train.py" --recipe {params.recipe:q} --name {wildcards.experiment:q} '
        "--class-set {input.class_set:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--train-pack {params.train_pack:q} "
        "--test-pack {params.test_pack:q} {params.start:q} --out {params.folder:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"
