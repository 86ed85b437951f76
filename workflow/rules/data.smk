"""Data: problems and demonstrations, generated or read, checked, as JSON lines."""


rule prepare:
    """Generate or read a dataset, check answers and splits, write it as JSON lines with a manifest."""
    output:
        train=PATHS.split("{dataset}", "train"),
        validation=PATHS.split("{dataset}", "validation"),
        test=PATHS.split("{dataset}", "test"),
        demonstrations=PATHS.split("{dataset}", "demonstrations"),
        manifest=PATHS.data("{dataset}", "manifest.json"),
    log:
        PATHS.log("prepare", "{dataset}"),
    benchmark:
        PATHS.benchmark("prepare", "{dataset}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.prepare.mem_mb,
        runtime=STUDY.resources.prepare.runtime_min,
        gpu=STUDY.resources.prepare.gpus,
    params:
        part=part_of("prepare", "{dataset}"),
        config=config_file,
    message:
        "prepare {wildcards.dataset}"
    shell:
        "logged {log} python -m spo prepare {wildcards.dataset} --config {params.config}"
