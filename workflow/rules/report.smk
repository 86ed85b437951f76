"""Pictures: figures with the numbers behind them, tables, and one page that shows and explains all."""


rule figure:
    """Draw one figure; the CSV holds every plotted point and the text file the caption."""
    input:
        results=picture_files,
        code=code("analysis/*.py"),
    output:
        png=report(
            PATHS.figure("{figure}", "png"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "picture"},
        ),
        pdf=PATHS.figure("{figure}", "pdf"),
        csv=report(
            PATHS.numbers("{figure}"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "numbers"},
        ),
        caption=PATHS.caption("{figure}"),
    log:
        PATHS.log("figure", "{figure}"),
    benchmark:
        PATHS.benchmark("figure", "{figure}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.figure.mem_mb,
        runtime=STUDY.resources.figure.runtime_min,
        gpu=STUDY.resources.figure.gpus,
    params:
        part=part_of("figure", "{figure}"),
        config=config_file,
    message:
        "figure {wildcards.figure}"
    shell:
        "logged {log} python -m spo figure {wildcards.figure} --config {params.config}"


rule table:
    """Make one table as Markdown, CSV and LaTeX, and as JSON for the report."""
    input:
        results=picture_files,
        code=code("analysis/*.py"),
    output:
        md=PATHS.table("{table}", "md"),
        csv=report(
            PATHS.table("{table}", "csv"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex=PATHS.table("{table}", "tex"),
        cells=PATHS.table("{table}", "json"),
    log:
        PATHS.log("table", "{table}"),
    benchmark:
        PATHS.benchmark("table", "{table}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.table.mem_mb,
        runtime=STUDY.resources.table.runtime_min,
        gpu=STUDY.resources.table.gpus,
    params:
        part=part_of("table", "{table}"),
        config=config_file,
    message:
        "table {wildcards.table}"
    shell:
        "logged {log} python -m spo table {wildcards.table} --config {params.config}"


rule report:
    """Put figures, tables, differences with intervals, costs and example solutions on one page."""
    input:
        results=report_files,
        figures=[PATHS.figure(name, "png") for name in FIGURES],
        numbers=[PATHS.numbers(name) for name in FIGURES],
        tables=[PATHS.table(name, "json") for name in TABLES],
        pages=report_pages,
        code=code("analysis/*.py"),
    output:
        html=report(PATHS.report, caption="../report/report.rst", category="Report"),
    log:
        PATHS.log("report", "report"),
    benchmark:
        PATHS.benchmark("report", "report")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.report.mem_mb,
        runtime=STUDY.resources.report.runtime_min,
        gpu=STUDY.resources.report.gpus,
    params:
        part=part_of("report"),
        config=config_file,
    message:
        "report"
    shell:
        "logged {log} python -m spo report --config {params.config}"
