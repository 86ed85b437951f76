"""Looking inside: how wrong estimated advantages are, and trajectories with everything that is computed about them.

These rules sample, so that their code is not an input of theirs, like that of training.
"""


rule audit:
    """Measure how far each method's advantages are from the truth, for the policy of one run."""
    input:
        policy=audit_policy,
        problems=audit_data,
    output:
        rows="<results>/audits/{audit}/s{seed}.jsonl",
    log:
        "<logs>/audit/{audit}/s{seed}.log",
    benchmark:
        "<benchmarks>/audit/{audit}/s{seed}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.audit.mem_mb,
        runtime=STUDY.resources.audit.runtime_min,
        gpu=STUDY.resources.audit.gpus,
    params:
        settings=audit_settings,
        train=audit_train,
        dataset=audit_dataset,
        folder=audit_folder,
        critic=audit_critic,
        data=subpath(input.problems, parent=True),
    shell:
        "python -m spo audit --name {wildcards.audit}-s{wildcards.seed} --settings {params.settings:q}"
        " --gpus {resources.gpu} --train {params.train:q} --dataset {params.dataset:q} --model {params.folder} {params.critic}"
        " --data {params.data} --output {output.rows} > {log} 2>&1"


rule trace:
    """Write down trajectories and trees of one policy, with values, segments and advantages."""
    input:
        policy=trace_policy,
        problems=trace_data,
    output:
        trace="<results>/traces/{trace}.json",
    log:
        "<logs>/trace/{trace}.log",
    benchmark:
        "<benchmarks>/trace/{trace}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.trace.mem_mb,
        runtime=STUDY.resources.trace.runtime_min,
        gpu=STUDY.resources.trace.gpus,
    params:
        settings=trace_settings,
        train=trace_train,
        dataset=trace_dataset,
        folder=trace_folder,
        data=subpath(input.problems, parent=True),
    shell:
        "python -m spo trace --name {wildcards.trace} --settings {params.settings:q} --train {params.train:q}"
        " --gpus {resources.gpu} --dataset {params.dataset:q} --model {params.folder} --data {params.data} --output {output.trace}"
        " > {log} 2>&1"


rule trajectories:
    """Put all traced trajectories on one page to step through."""
    input:
        traces=expand("<results>/traces/{trace}.json", trace=STUDY.traces),
        code=code("analysis/*.py"),
    output:
        html=report("<results>/trajectories.html", caption="../report/trajectories.rst", category="Report"),
    log:
        "<logs>/trajectories/trajectories.log",
    benchmark:
        "<benchmarks>/trajectories/trajectories.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.trajectories.mem_mb,
        runtime=STUDY.resources.trajectories.runtime_min,
        gpu=STUDY.resources.trajectories.gpus,
    params:
        settings=page_settings,
        results=subpath(output.html, parent=True),
    shell:
        "python -m spo trajectories --settings {params.settings:q} --results {params.results} --output {output.html}"
        " > {log} 2>&1"
