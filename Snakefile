# Segment Policy Optimization: every model, run, evaluation, figure and table of a study.
#
#   snakemake --cores all                                    the laptop study, config/config.yaml
#   snakemake --cores all fig3a                              one figure, with whatever it still needs
#   snakemake --cores all --configfile config/smoke.yaml     everything in miniature, in minutes
#   snakemake --cores 1 plan                                 what it will cost, about
#   snakemake --list                                         the rules and what they do

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


onstart:
    # With a limit of jobs a second (the default), Snakemake 9.27 looks at all ready jobs once a second for every job that it
    # has started so far: half a core after a hundred jobs. On a cluster the limit protects the queue.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    write_study()
    rehearse()


onsuccess:
    for path in filter(os.path.exists, (PATHS.report, PATHS.trajectories)):
        print(f"{STUDY.study}: {path}", file=sys.stderr)


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    model=one_of(STUDY.models),
    run=one_of(RUNS),
    policy=one_of([*STUDY.models, *RUNS]),
    protocol=one_of(STUDY.protocols),
    audit=one_of(STUDY.audits),
    seed=r"\d+",
    trace=one_of(STUDY.traces),
    figure=one_of(FIGURES),
    table=one_of(TABLES),


rule all:
    """Every figure and table of the study, the report, and the page of trajectories."""
    default_target: True
    input:
        figures=[PATHS.figure(name, "png") for name in FIGURES],
        tables=[PATHS.table(name, "md") for name in TABLES],
        report=PATHS.report,
        pages=report_pages,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/inspect.smk"
include: "workflow/rules/report.smk"


localrules:
    plan,


rule plan:
    """Runs, evaluations and estimates of time and disk, before anything starts."""
    log:
        PATHS.log("plan"),
    conda:
        "environment.yml"
    params:
        files=[os.path.relpath(path) for path in workflow.configfiles],
    shell:
        "python -m spo plan {params.files:q} 2>&1 | tee {log}"


# Names to ask for: each figure and table by its own (fig3a, table1, ...), and these groups.


rule models:
    """Every trained model."""
    input:
        [f"{PATHS.trained(run)}/model.safetensors" for run in RUNS],


rule scores:
    """Every accuracy, without figures."""
    input:
        [PATHS.score(*names) for names in EVALUATIONS],


rule audits:
    """Every measurement of how wrong advantages are."""
    input:
        [f"{STUDY.results}/{path}" for path in AUDITS],


rule traces:
    """Every trajectory to look at, without the page."""
    input:
        [PATHS.trace(name) for name in STUDY.traces],


rule figures:
    """Every figure."""
    input:
        [PATHS.figure(name, "png") for name in FIGURES],


rule tables:
    """Every table."""
    input:
        [PATHS.table(name, "md") for name in TABLES],


for name in FIGURES:

    rule:
        name:
            name
        input:
            PATHS.figure(name, "png"),


for name in TABLES:

    rule:
        name:
            name
        input:
            PATHS.table(name, "md"),
