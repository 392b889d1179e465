# Thumbnails of a data set and maps of the embeddings, for the pages.


rule thumbnails:
    input:
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
        pixels=ancient(f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin"),
        digest=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin.sha256",
    output:
        f"{RESULTS}/data/{{dataset}}/pack_{{resize}}_thumbnails.webp",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/thumbnails_{{resize}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.thumbnails(w.dataset, w.resize)),
        runtime=growing(20),
    params:
        # A page of 12,000 images stays below 15 MB.
        side=lambda w: min(THUMBNAIL, parse_resize(w.resize).size),
        code=code_digest("make_thumbnails.py"),
        pack=lambda w, input: os.path.dirname(input.pixels),
    message:
        "Make thumbnails of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/make_thumbnails.py" --pack {params.pack:q} '
        "--manifest {input.manifest:q} --side {params.side} --out {output:q} --log {log:q}"


# For the first seed, and for both models that the report of an experiment shows.
rule map_embeddings:
    input:
        embeddings=[path.replace("map.csv", "embeddings.npz") for path in FILES.maps()],
        manifest=lambda w: FILES.embedding_inputs(w.experiment)["manifest"],
    output:
        FILES.maps(),
    log:
        f"{RESULTS}/logs/map/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    # One thread: more threads do not save time, and sums depend on their number.
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.map(w.experiment)),
        runtime=growing(30),
    params:
        seed=STUDY.seeds[0],
        code=code_digest("map_embeddings.py"),
        runs=lambda w, input: [os.path.dirname(path) for path in input.embeddings],
    message:
        "Map the embeddings of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/map_embeddings.py" --runs {params.runs:q} --manifest {input.manifest:q} '
        "--seed {params.seed} --threads {threads} --log {log:q}"
