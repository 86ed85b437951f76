"""Pictures: figures with the numbers behind them, tables, and one page that shows and explains all."""


rule figure:
    """Draw one figure; the CSV holds every plotted point and the text file the caption."""
    input:
        results=picture_files,
        code=code("analysis/*.py"),
    output:
        png=report(
            "<pictures>/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "picture"},
        ),
        pdf="<pictures>/{figure}.pdf",
        csv=report(
            "<results>/figures/{figure}.csv",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "numbers"},
        ),
        caption="<results>/figures/{figure}.txt",
    log:
        "<logs>/figure/{figure}.log",
    benchmark:
        "<benchmarks>/figure/{figure}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.figure.mem_mb,
        runtime=STUDY.resources.figure.runtime_min,
        gpu=STUDY.resources.figure.gpus,
    params:
        settings=figure_settings,
        results=subpath(output.csv, ancestor=2),
        stem=subpath(output.png, strip_suffix=".png"),
    shell:
        "python -m spo figure --name {wildcards.figure} --settings {params.settings:q} --results {params.results}"
        " --output {params.stem} --csv {output.csv} > {log} 2>&1"


rule table:
    """Make one table as Markdown, CSV and LaTeX, and as JSON for the report."""
    input:
        results=picture_files,
        code=code("analysis/*.py"),
    output:
        md="<results>/tables/{table}.md",
        csv=report(
            "<results>/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        tex="<results>/tables/{table}.tex",
        cells="<results>/tables/{table}.json",
    log:
        "<logs>/table/{table}.log",
    benchmark:
        "<benchmarks>/table/{table}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.table.mem_mb,
        runtime=STUDY.resources.table.runtime_min,
        gpu=STUDY.resources.table.gpus,
    params:
        settings=table_settings,
        results=subpath(output.md, ancestor=2),
        stem=subpath(output.md, strip_suffix=".md"),
    shell:
        "python -m spo table --name {wildcards.table} --settings {params.settings:q} --results {params.results}"
        " --output {params.stem} > {log} 2>&1"


rule report:
    """Put figures, tables, differences with intervals, costs and example solutions on one page."""
    input:
        results=report_files,
        figures=expand("<pictures>/{figure}.png", figure=FIGURES),
        numbers=expand("<results>/figures/{figure}.csv", figure=FIGURES),
        tables=expand("<results>/tables/{table}.json", table=TABLES),
        pages=report_pages,
        code=code("analysis/*.py"),
    output:
        html=report("<results>/report.html", caption="../report/report.rst", category="Report"),
    log:
        "<logs>/report/report.log",
    benchmark:
        "<benchmarks>/report/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.report.mem_mb,
        runtime=STUDY.resources.report.runtime_min,
        gpu=STUDY.resources.report.gpus,
    params:
        settings=report_settings,
        results=subpath(output.html, parent=True),
        pictures=pictures_folder,
    shell:
        "python -m spo report --settings {params.settings:q} --results {params.results} --figures {params.pictures}"
        " --output {output.html} > {log} 2>&1"
