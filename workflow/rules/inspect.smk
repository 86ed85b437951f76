"""Looking inside: how wrong estimated advantages are, and trajectories with everything that is computed about them.

These rules sample, so that their code is not an input of theirs, like that of training.
"""


rule audit:
    """Measure how far each method's advantages are from the truth, for the policy of one run."""
    input:
        policy=audit_policy,
        problems=audit_data,
    output:
        rows=PATHS.audit("{audit}", "{seed}"),
    log:
        PATHS.log("audit", "{audit}", "s{seed}"),
    benchmark:
        PATHS.benchmark("audit", "{audit}", "s{seed}")
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.audit.mem_mb,
        runtime=STUDY.resources.audit.runtime_min,
        gpu=STUDY.resources.audit.gpus,
    params:
        part=part_of("audit", "{audit}/s{seed}"),
        config=config_file,
    message:
        "audit {wildcards.audit}/s{wildcards.seed}"
    shell:
        "logged {log} python -m spo audit {wildcards.audit}/s{wildcards.seed} --config {params.config} --gpus {resources.gpu}"


rule trace:
    """Write down trajectories and trees of one policy, with values, segments and advantages."""
    input:
        policy=trace_policy,
        problems=trace_data,
    output:
        trace=PATHS.trace("{trace}"),
    log:
        PATHS.log("trace", "{trace}"),
    benchmark:
        PATHS.benchmark("trace", "{trace}")
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.trace.mem_mb,
        runtime=STUDY.resources.trace.runtime_min,
        gpu=STUDY.resources.trace.gpus,
    params:
        part=part_of("trace", "{trace}"),
        config=config_file,
    message:
        "trace {wildcards.trace}"
    shell:
        "logged {log} python -m spo trace {wildcards.trace} --config {params.config} --gpus {resources.gpu}"


rule trajectories:
    """Put all traced trajectories on one page to step through."""
    input:
        traces=[PATHS.trace(name) for name in STUDY.traces],
        code=code("analysis/*.py"),
    output:
        html=report(PATHS.trajectories, caption="../report/trajectories.rst", category="Report"),
    log:
        PATHS.log("trajectories", "trajectories"),
    benchmark:
        PATHS.benchmark("trajectories", "trajectories")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.trajectories.mem_mb,
        runtime=STUDY.resources.trajectories.runtime_min,
        gpu=STUDY.resources.trajectories.gpus,
    params:
        part=part_of("trajectories"),
        config=config_file,
    message:
        "trajectories"
    shell:
        "logged {log} python -m spo trajectories --config {params.config}"
