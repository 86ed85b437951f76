"""Training: base models by supervised learning, then one run for each method and seed.

Checkpoints are in no rule's output: Snakemake deletes outputs before a job starts, and a killed job must find its checkpoints
again. `logged` leaves the terminal at descriptor 3, so that progress can be shown while all output goes to the log.
"""


rule sft:
    """Train a base model from random weights on demonstrations, right habits and wrong ones alike."""
    input:
        data=sft_data,
    output:
        config=PATHS.model("{model}", "config.json"),
        generation=PATHS.model("{model}", "generation_config.json"),
        weights=PATHS.model("{model}", "model.safetensors"),
        tokenizer=PATHS.model("{model}", "tokenizer.json"),
        tokenizer_config=PATHS.model("{model}", "tokenizer_config.json"),
        card=PATHS.model("{model}", "README.md"),
        metrics=PATHS.model("{model}", "metrics.jsonl"),
        timing=PATHS.model("{model}", "timing.jsonl"),
    log:
        PATHS.log("sft", "{model}"),
    benchmark:
        PATHS.benchmark("sft", "{model}")
    priority: 10000
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.sft.mem_mb,
        runtime=STUDY.resources.sft.runtime_min,
        gpu=STUDY.resources.sft.gpus,
    params:
        part=part_of("sft", "{model}"),
        config=config_file,
    message:
        "sft {wildcards.model}"
    shell:
        "logged {log} python -m spo sft {wildcards.model} --config {params.config} --gpus {resources.gpu}"


rule train:
    """Improve a base model with one method and one seed; a killed run goes on where it was."""
    input:
        data=run_data,
        model=run_model,
    output:
        config=PATHS.trained("{run}", "config.json"),
        generation=PATHS.trained("{run}", "generation_config.json"),
        weights=PATHS.trained("{run}", "model.safetensors"),
        tokenizer=PATHS.trained("{run}", "tokenizer.json"),
        tokenizer_config=PATHS.trained("{run}", "tokenizer_config.json"),
        card=PATHS.trained("{run}", "README.md"),
        metrics=PATHS.metrics("{run}"),
        timing=PATHS.timing("{run}"),
    log:
        PATHS.log("train", "{run}"),
    benchmark:
        PATHS.benchmark("train", "{run}")
    wildcard_constraints:
        run=one_of(run for run in RUNS if run not in CRITICS),
    priority: run_priority
    conda:
        "../../environment.yml"
    threads: STUDY.resources.train.processes
    resources:
        mem_mb=STUDY.resources.train.mem_mb,
        runtime=STUDY.resources.train.runtime_min,
        gpu=STUDY.resources.train.gpus,
        processes=STUDY.resources.train.processes,
    params:
        part=part_of("train", "{run}"),
        config=config_file,
    message:
        "train {wildcards.run}"
    shell:
        "logged {log} python -m spo train {wildcards.run} --config {params.config} --gpus {resources.gpu} --processes {resources.processes}"


use rule train as train_with_critic with:
    output:
        **rules.train.output,
        critic_config=PATHS.critic("{run}", "config.json"),
        critic_weights=PATHS.critic("{run}", "model.safetensors"),
    wildcard_constraints:
        run=one_of(CRITICS),
    threads: STUDY.resources.train_with_critic.processes
    resources:
        mem_mb=STUDY.resources.train_with_critic.mem_mb,
        runtime=STUDY.resources.train_with_critic.runtime_min,
        gpu=STUDY.resources.train_with_critic.gpus,
        processes=STUDY.resources.train_with_critic.processes,
