# Weights that backbones start from.


localrules:
    published_weights,


rule published_weights:
    output:
        weights=f"{RESULTS}/initializers/{{initializer}}/{{arch}}.pth",
        digest=f"{RESULTS}/initializers/{{initializer}}/{{arch}}.pth.sha256",
    log:
        f"{RESULTS}/logs/initializers/{{initializer}}_{{arch}}.log",
    cache: CACHE
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        # Shared results are told apart by params, not by wildcards.
        arch=lambda w: w.arch,
        # It takes the output, so that it is not compared: wherever they are fetched, these are the
        # weights of torchvision's hash.
        source=lambda w, output: arguments.published_weights(
            STUDY.initializers[w.initializer]["weights"].get(w.arch)
        ),
    message:
        "Get torchvision's weights of {wildcards.arch}"
    shell:
        'python "$DML_SCRIPTS/get_weights.py" --arch {params.arch} {params.source:q} '
        "--out {output.weights:q} --log {log:q}"


rule pretrain:
    input:
        unpack(lambda w: FILES.initializer_inputs(w.initializer, w.arch, w.class_set, w.seed)),
    output:
        weights=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{arch}}.pt",
        digest=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{arch}}.pt.sha256",
        curve=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{arch}}_curves.csv",
        check=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{arch}}_check.json",
        cost=f"{RESULTS}/initializers/{{initializer}}/{{class_set}}/seed{{seed}}/{{arch}}_cost.json",
    log:
        f"{RESULTS}/logs/initializers/{{initializer}}_{{class_set}}_seed{{seed}}_{{arch}}.log",
    # First: whole groups of runs wait for it, and nothing else takes as long.
    priority: 10
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(3000 if GPU == 0 else 8000),
        runtime=growing(480),
    params:
        recipe=lambda w: STUDY.initializer_recipe(w.initializer, w.arch, int(w.seed)).as_json(),
        code=lambda w: code_digest(
            "pretrain.py",
            *recipes.pieces(STUDY.initializer_entry(w.initializer, w.arch)),
        ),
        start=weights_option,
        train_pack=lambda w, input: os.path.dirname(input.train_pixels),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
        checkpoint_every=checkpoint_every,
    message:
        "Pretrain {wildcards.arch}: {wildcards.initializer} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/pretrain.py" --recipe {params.recipe:q} --name {wildcards.initializer:q} '
        "--class-set {input.class_set:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--train-pack {params.train_pack:q} "
        "--test-pack {params.test_pack:q} {params.start:q} --out-weights {output.weights:q} "
        "--out-curve {output.curve:q} --out-check {output.check:q} --out-cost {output.cost:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"
