# Requires: the analysis-ready tables and the reference rows.
# Makes:    <results>/analysis/: a CSV table for every analysis, and the figures as PNG.


rule analysis_study1:
    input:
        ready="<results>/analysis-ready/study1.csv",
        reference="<results>/analysis-ready/reference_study1.csv",
        published=ancient(resource("reference/study1_published_tests.csv")),
    output:
        cells="<results>/analysis/study1_cells.csv",
        distances="<results>/analysis/study1_distances.csv",
        contrasts="<results>/analysis/study1_contrasts.csv",
        anova="<results>/analysis/study1_anova.csv",
        knowledge="<results>/analysis/study1_knowledge.csv",
        cancellation="<results>/analysis/study1_cancellation.csv",
        agreement="<results>/analysis/study1_agreement.csv",
        quality="<results>/analysis/study1_quality.csv",
        bets=report(
            "<results>/analysis/figures/study1_bets.png",
            caption="../report/study1_bets.rst",
            category="Study 1: knowledge attribution",
            labels={"figure": "Bets on every state"},
        ),
        state3=report(
            "<results>/analysis/figures/study1_state3_by_access.png",
            caption="../report/study1_state3_by_access.rst",
            category="Study 1: knowledge attribution",
            labels={"figure": "Bets on state 3"},
        ),
        forest=report(
            "<results>/analysis/figures/study1_contrasts.png",
            caption="../report/study1_contrasts.rst",
            category="Study 1: knowledge attribution",
            labels={"figure": "Planned contrasts"},
        ),
        knows=report(
            "<results>/analysis/figures/study1_knowledge.png",
            caption="../report/study1_knowledge.rst",
            category="Study 1: knowledge attribution",
            labels={"figure": "Knowledge"},
        ),
        calibration=report(
            "<results>/analysis/figures/study1_agreement.png",
            caption="../report/study1_agreement.rst",
            category="Study 1: knowledge attribution",
            labels={"figure": "Experiment 1 against 2"},
        ),
    log:
        "<logs>/analysis_study1.log",
    group:
        "report"
    conda:
        "../../envs/r.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("analysis"),
        runtime=STEPS["analysis"].minutes,
    params:
        cell={**STATISTICS, **PROJECT.analysis_cell()},
        inputs=PROJECT.input_digests("resources/reference/study1_published_tests.csv"),
        code=analysis_code("study1"),
    message:
        "Analyse study 1"
    script:
        "../../scripts/analysis.R"


rule analysis_study2:
    input:
        ready="<results>/analysis-ready/study2.csv",
        reference="<results>/analysis-ready/reference_study2.csv",
    output:
        cells="<results>/analysis/study2_cells.csv",
        negation="<results>/analysis/study2_negation.csv",
        glmer="<results>/analysis/study2_glmer.csv",
        tests="<results>/analysis/study2_tests.csv",
        human_comparison="<results>/analysis/study2_human_comparison.csv",
        agreement="<results>/analysis/study2_agreement.csv",
        quality="<results>/analysis/study2_quality.csv",
        utterances=report(
            "<results>/analysis/figures/study2_utterances.png",
            caption="../report/study2_utterances.rst",
            category="Study 2: politeness",
            labels={"figure": "Utterances"},
        ),
        negated=report(
            "<results>/analysis/figures/study2_negation.png",
            caption="../report/study2_negation.rst",
            category="Study 2: politeness",
            labels={"figure": "Negation"},
        ),
        scatter=report(
            "<results>/analysis/figures/study2_human_scatter.png",
            caption="../report/study2_human_scatter.rst",
            category="Study 2: politeness",
            labels={"figure": "Models and people"},
        ),
        calibration=report(
            "<results>/analysis/figures/study2_agreement.png",
            caption="../report/study2_agreement.rst",
            category="Study 2: politeness",
            labels={"figure": "Experiment 1 against 2"},
        ),
    log:
        "<logs>/analysis_study2.log",
    group:
        "report"
    conda:
        "../../envs/r.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("analysis"),
        runtime=STEPS["analysis"].minutes,
    params:
        cell={**STATISTICS, **PROJECT.analysis_cell()},
        code=analysis_code("study2"),
    message:
        "Analyse study 2"
    script:
        "../../scripts/analysis.R"
