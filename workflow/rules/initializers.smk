# Weights that backbones start from.


rule get_weights:
    output:
        weights=f"{RESULTS}/initializers/{{initializer}}/{{backbone}}.weights",
        digest=f"{RESULTS}/initializers/{{initializer}}/{{backbone}}.weights.sha256",
        origin=f"{RESULTS}/initializers/{{initializer}}/{{backbone}}.weights.json",
    log:
        f"{RESULTS}/logs/initializers/{{initializer}}_{{backbone}}.log",
    cache: CACHE
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        # Shared results are told apart by params, not by wildcards.
        backbone=lambda w: BACKBONES[w.backbone],
        kind=lambda w: STUDY.initializers[w.initializer]["kind"],
        check=lambda w: arguments.weights_check(weights_file(w)),
        content=lambda w: weights_content(w.initializer, BACKBONES[w.backbone]),
        # It takes the output, so that it is not compared: a verified file is the same wherever it comes
        # from.
        place=lambda w, output: arguments.weights_place(weights_file(w)),
    message:
        "Get weights of {params.backbone}: {wildcards.initializer}"
    shell:
        'python "$DML_SCRIPTS/get_weights.py" --backbone {params.backbone:q} --kind {params.kind} '
        "{params.place:q} {params.check:q} --out {output.weights:q} --log {log:q}"


rule pretrain:
    input:
        unpack(
            lambda w: FILES.initializer_inputs(
                w.initializer, BACKBONES[w.backbone], w.class_set, w.seed
            )
        ),
    output:
        weights=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{backbone}}.weights",
        digest=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{backbone}}.weights.sha256",
        curve=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{backbone}}_curves.csv",
        check=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{backbone}}_check.json",
        cost=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{backbone}}_cost.json",
    log:
        f"{RESULTS}/logs/initializers/{{initializer}}_{{class_set}}_seed{{seed}}_{{backbone}}.log",
    # First: whole groups of runs wait for it, and nothing else takes as long.
    priority: 10
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
        backbone=lambda w: BACKBONES[w.backbone],
        recipe=lambda w: STUDY.initializer_recipe(
            w.initializer, BACKBONES[w.backbone], int(w.seed)
        ).as_json(),
        code=lambda w: code_digest(
            "pretrain.py",
            *recipes.pieces(STUDY.initializer_entry(w.initializer, BACKBONES[w.backbone])),
        ),
        start=weights_option,
        train_pack=lambda w, input: os.path.dirname(input.train_pixels),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
        checkpoint_every=checkpoint_every,
    message:
        "Pretrain {params.backbone}: {wildcards.initializer} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/pretrain.py" --recipe {params.recipe:q} --name {wildcards.initializer:q} '
        "--class-set {input.class_set:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--train-pack {params.train_pack:q} "
        "--test-pack {params.test_pack:q} {params.start:q} --out-weights {output.weights:q} "
        "--out-curve {output.curve:q} --out-check {output.check:q} --out-cost {output.cost:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"
