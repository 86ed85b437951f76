"""Every mistake at once, each with its file and line; what trains nothing; what an overlay leaves without a subject."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from spo import config
from spo.config import layers
from spo.errors import UserError
from tests.unit.config.test_study import CONFIG, SMALL

MISTAKES = """\
training:
  iterationss: 5
  batch_episodes: many
datasets:
  stories: {sorce: 3, prompt: "Q"}
  mine: {source: storys, grader: final_line}
experiments:
  short_cot:
    methods:
      - grpo
      - spo_chian
  mine: {model: pupil, datset: x, methods: [grpo], seeds: [1], contexts: [9], protocols: [gredy]}
figures:
  fig3a: {draw: acuracy_bars, paper: fig33}
methods:
  grpo: {train: {loss: {beta: 3}}}
  vineppo: {train: {credit: {kind: chian}}}
traces:
  stories: {trace: {problems: 0}}
"""


def said(files: list[Path], extra: dict | None = None) -> list[str]:
    with pytest.raises(UserError) as error:
        config.load(files, extra)
    return str(error.value).splitlines()


def test_load_names_all_mistakes_in_the_order_of_their_lines(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(MISTAKES, encoding="utf-8")
    found = said([CONFIG / "config.yaml", overlay], {"experiments": {"overfit": {"seeds": 3}}})
    assert [line.removeprefix(f"{overlay}:") for line in found] == [
        "2: training.iterationss: unknown key (did you mean iterations?)",
        "3: training.batch_episodes: should be a whole number, not 'many'",
        "5: datasets.stories.prompt: should contain {question}, where the question goes",
        "5: datasets.stories.sorce: unknown key (did you mean source?)",
        "6: datasets.mine.source: unknown dataset source storys (did you mean stories?)",
        "11: experiments.short_cot.methods.1: unknown method spo_chian (did you mean spo_chain?)",
        "12: experiments.mine.dataset: missing",
        "12: experiments.mine.datset: unknown key (did you mean dataset?)",
        "14: figures.fig3a.draw: unknown kind of figure acuracy_bars (did you mean accuracy_bars?)",
        "14: figures.fig3a.paper: unknown entry of config/paper_numbers.yaml fig33 (did you mean fig3c?)",
        "16: methods.grpo.train.loss.beta: never read by kind group with objective clipped. Remove this key",
        "17: methods.vineppo.train.credit.kind: unknown kind chian (did you mean chain?)",
        "19: traces.stories.trace.problems: should be at least 1, not 0",
        "--config: experiments.overfit.seeds: should be a list, not 3",
    ]


def test_load_names_the_layer_that_set_a_wrong_value(tmp_path: Path) -> None:
    """A wrong value of the lower file that the upper one mends is none."""
    lower, upper = tmp_path / "lower.yaml", tmp_path / "upper.yaml"
    lower.write_text("training:\n  epochs: 0\n  iterations: 0\n", encoding="utf-8")
    upper.write_text("\ntraining:\n  epochs: 2\n  batch_episodes: 0\n", encoding="utf-8")
    found = said([CONFIG / "config.yaml", lower, upper])
    assert found == [
        f"{lower}:3: training.iterations: should be at least 1, not 0",
        f"{upper}:4: training.batch_episodes: should be at least 1, not 0",
    ]


def test_load_says_the_same_each_time(tmp_path: Path) -> None:
    """Names of a set would come in another order in every process; here: what five pairs name."""
    overlay = tmp_path / "mine.yaml"
    pairs = [[f"m{i}", f"n{i}"] for i in range(5)]
    overlay.write_text(yaml.safe_dump({"experiments": {"short_cot": {"pairs": pairs}}}), encoding="utf-8")
    found = said([CONFIG / "config.yaml", overlay])
    names = [line.split("experiment ")[1].split(" ")[0] for line in found]
    assert names == [name for pair in pairs for name in pair]


# ---- what fits its type and cannot run -------------------------------------------------------------------------------

TREE = {"kind": "tree", "branches": [2, 2], "segment_tokens": 30}


def method(**train: object) -> dict:
    return {"methods": {"mine": {"label": "Mine", "train": train}}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (method(credit={"kind": "group", "samples_per_problem": 1}), "samples_per_problem: 1, but responses to a"),
        (method(credit={"kind": "pairs", "samples_per_problem": 1}), "samples_per_problem: 1, but responses to a"),
        (method(credit=TREE | {"branches": [1, 1]}), "credit.branches: no node has two children"),
        (method(credit=TREE, max_response_tokens=30), "credit.branches: 2 levels, but the last begins 30 tokens into"),
        (
            method(credit={"kind": "chain", "first_segment": "zero", "partition": {"name": "whole"}}),
            "credit.first_segment: zero, but partition whole makes one segment here",
        ),
        (
            method(credit={"kind": "chain", "first_segment": "zero", "partition": {"threshold": 0}}),
            "credit.first_segment: zero, but partition cutpoint_interval makes one segment here",
        ),
        (
            method(
                credit={"kind": "chain", "first_segment": "zero", "partition": {"name": "fixed_count", "segments": 1}}
            ),
            "credit.first_segment: zero, but partition fixed_count makes one segment here",
        ),
        (
            method(credit={"kind": "chain", "zero_confident": True, "partition": {"threshold": 0}}),
            "credit.partition.threshold: 0, but zero_confident then gives every token advantage 0",
        ),
        (method(credit={"kind": "group"}, context_tokens=1), "context_tokens: 1, but a prompt and a response take 2"),
        (
            method(credit={"kind": "group"}, loss={"probability_mask": 0}),
            "loss.probability_mask: 0, but no probability is below 0",
        ),
        (
            method(credit={"kind": "group"}, memory={"weights": "bfloat16"}),
            "memory.weights: bfloat16 needs `dtype: bfloat16`, which is float32",
        ),
        (
            method(credit={"kind": "group"}, memory={"device": "cuda"}),
            "memory.device: cuda, but backend engine uses the processor. Take backend hf or vllm, or device auto",
        ),
        (
            {"protocols": {"greedy": {"memory": {"device": "cuda"}}}},
            "protocols.greedy.memory.device: cuda, but backend engine uses the processor",
        ),
        (
            method(credit={"kind": "group"}, validation_samples=2, validation_sampling={"temperature": 0}),
            "validation_samples: 2, but at temperature 0 all samples of a problem are the same",
        ),
        (
            {"protocols": {"greedy": {"samples_per_problem": 4}}},
            "protocols.greedy.samples_per_problem: 4, but at temperature 0",
        ),
        (
            method(credit={"kind": "accepted"}, loss={"clip_range": 0.1}),
            "methods.mine.train.loss.clip_range: never read by kind accepted with objective nll",
        ),
        (
            {"models": {"tiny": {"architecture": {"hidden_size": 36, "heads": 4}}}},
            "models.tiny.architecture.heads: 4, but hidden_size 36 should be an even multiple of it",
        ),
        (
            {"models": {"tiny": {"architecture": {"heads": 4, "kv_heads": 3}}}},
            "models.tiny.architecture.kv_heads: 3, but heads 4 is no multiple of it",
        ),
        (
            {"models": {"tiny": {"tokenizer": {"kind": "bpe", "vocabulary_size": 257}}}},
            "models.tiny.tokenizer.vocabulary_size: 257, but byte-level BPE needs at least 258",
        ),
    ],
)
def test_check_refuses_what_trains_nothing(tmp_path: Path, changes: dict, expected: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(SMALL)), encoding="utf-8")
    found = said([path], changes)
    assert len(found) == 1 and expected in found[0], found


def test_check_accepts_what_a_loss_reads(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(SMALL)), encoding="utf-8")
    shared = {"training": {"loss": {"clip_range": 0.1}}}  # which methods of any kind may inherit
    own = method(credit={"kind": "pairs"}, loss={"clip_range": 0.2})  # the default, as good as unset
    assert config.load([path], layers.merge(shared, own)).training["loss"] == {"clip_range": 0.1}


# ---- overlays that shrink a study ------------------------------------------------------------------------------------


def shrunk(tmp_path: Path, overlay: dict, *more: dict) -> tuple[config.Study, list[str]]:
    files = [CONFIG / "config.yaml"]
    for number, content in enumerate((overlay, *more)):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    lines: list[str] = []
    return config.load(files, tell=lines.append), lines


def test_load_leaves_out_what_an_overlay_took_the_subject_from(tmp_path: Path) -> None:
    found, lines = shrunk(tmp_path, {"experiments": {"short_cot": {"methods": ["grpo", "spo_chain"]}}})
    assert found.experiments["short_cot"].pairs == (("spo_chain", "grpo"),)
    assert not found.audits and "fig_credit" not in found.figures
    assert {"chain_over_grpo", "mask_helps_grpo"} <= set(found.claims)
    assert not {"chain_over_ppo", "chain_and_vineppo", "segments_know_better"} & set(found.claims)
    assert found.figures["fig3b"].methods == ("spo_chain",)
    keys = [line.partition(": ")[2] for line in lines]
    assert keys == [
        "experiments.short_cot.pairs.[spo_chain, ppo] is left out: experiments.short_cot.methods has no ppo",
        "experiments.short_cot.pairs.[spo_chain, vineppo] is left out: experiments.short_cot.methods has no vineppo",
        "experiments.short_cot.pairs.[spo_tree, grpo] is left out: experiments.short_cot.methods has no spo_tree",
        "experiments.short_cot.pairs.[spo_chain, spo_tree] is left out: experiments.short_cot.methods has no spo_tree",
        "audits.credit is left out: experiments.short_cot.methods has no ppo",
        "claims.chain_over_ppo is left out: experiments.short_cot.methods has no ppo",
        "claims.chain_and_vineppo is left out: experiments.short_cot.methods has no vineppo",
        "claims.segments_know_better is left out: audits.credit is left out",
        "figures.fig3b.methods: vineppo is left out: experiments.short_cot.methods has no vineppo",
        "figures.fig10.methods: vineppo is left out: experiments.short_cot.methods has no vineppo",
        "figures.fig_credit is left out: audits.credit is left out",
        "tables.settings.columns.short_cot: rloo, ppo, vineppo, restem, dpo_positive, spo_tree is left out: "
        "experiments.short_cot.methods has no rloo, ppo, vineppo, restem, dpo_positive, spo_tree",
    ]
    assert found.tables["settings"].columns["short_cot"] == ("grpo", "spo_chain")
    assert all(str(CONFIG / "config.yaml:") in line for line in lines)


def test_load_leaves_out_what_shows_an_experiment_that_is_gone(tmp_path: Path) -> None:
    kept = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))["experiments"]["overfit"]
    found, lines = shrunk(tmp_path, {"replace": ["experiments"], "experiments": {"overfit": kept}})
    assert set(found.claims) == {"grpo_overfits"} and set(found.figures) == {"fig8"}
    assert set(found.tables) == {"claims", "costs"} and not found.audits and not found.traces
    assert any("figures.fig3a is left out: there is no experiment short_cot any more" in line for line in lines)


def test_load_leaves_out_the_table_of_claims_with_the_last_claim(tmp_path: Path) -> None:
    kept = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))["experiments"]["overfit"]
    kept["methods"], found_by = ["rloo"], "all claims are left out"
    found, lines = shrunk(tmp_path, {"replace": ["experiments"], "experiments": {"overfit": kept}})
    assert not found.claims and set(found.tables) == {"costs"}
    assert any(line.endswith(f"tables.claims is left out: {found_by}") for line in lines)


def test_load_refuses_what_an_overlay_itself_writes_about_methods_that_it_took_out(tmp_path: Path) -> None:
    short = {"methods": ["grpo", "spo_chain"]}
    own = {"pairs": [["grpo", "ppo"]]}
    for overlays in (
        [{"experiments": {"short_cot": short | own}}],
        [{"experiments": {"short_cot": each}} for each in (short, own)],
    ):
        with pytest.raises(UserError, match="short_cot.pairs.0: unknown method of this experiment ppo"):
            shrunk(tmp_path, *overlays)


def test_load_of_the_whole_study_leaves_nothing_out(tmp_path: Path) -> None:
    assert shrunk(tmp_path, {"experiments": {"short_cot": {"seeds": [1]}}})[1] == []
