from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.analysis import bars, curves, figures, results, stats, style
from spo.analysis.slices import FIGURE_READS, Figure, PaperNumber, Quoted
from spo.errors import UserError
from tests.finished_study import LABELS, fill, make_study, paper_numbers

ROOT = Path(__file__).parents[3]


def _bars(study, **changes) -> Figure:
    return Figure(draw="accuracy_bars", title="Test accuracy", study=study, paper=paper_numbers(), **changes)


def _curves(study, **changes) -> Figure:
    return Figure(draw="learning_curves", title="Learning curves", study=study, **changes)


KINDS = ("accuracy_bars", "learning_curves", "budget_bars", "generation_time", "sampling_points", "overfitting")


@pytest.mark.parametrize("kind", KINDS)
def test_draw_writes_every_file_and_the_same_bytes_again(kind, filled, tmp_path):
    root, study = filled
    settings = Figure(draw=kind, title="A figure", study=study, paper=paper_numbers(), note="Its note.")
    digests = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        figures.draw("fig", settings, root, folder / "figures" / "fig", folder / "csv" / "fig.csv")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        assert [path.name for path in files] == ["fig.csv", "fig.txt", "fig.pdf", "fig.png"]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]
    png = (tmp_path / "first" / "figures" / "fig.png").read_bytes()
    assert int.from_bytes(png[16:20], "big") >= 700
    caption = (tmp_path / "first" / "csv" / "fig.txt").read_text()
    assert caption.startswith("A figure. ")
    assert caption.endswith(" Its note.\n")
    assert "3 seeds" in caption
    assert "95 %" in caption


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_of_three_iterations_with_one_seed_draws(kind, tmp_path):
    study = make_study(("grpo", "vineppo"), seeds=1)
    fill(tmp_path, study, problems=8, iterations=3)
    figures.draw("fig", Figure(draw=kind, title="T", study=study), tmp_path, tmp_path / "fig", tmp_path / "fig.csv")
    assert "interval over seeds" not in (tmp_path / "fig.txt").read_text()


def test_what_a_variant_changes_stands_in_the_caption(filled):
    root, study = filled
    chain = dataclasses.replace(
        study.arms[1], label="Halved", variant_of="SPO-chain", changes=(("train.lr", "1e-5"), ("epochs", "2"))
    )
    drawn = figures.FIGURES["sampling_points"](
        Figure(draw="sampling_points", title="T", study=dataclasses.replace(study, arms=(study.arms[0], chain))), root
    )
    assert drawn.caption.endswith("Halved: SPO-chain with train.lr 1e-5, epochs 2.")


def test_a_long_title_is_broken_to_fit_its_figure(filled):
    root, study = filled
    title = "Test accuracy, knights and knaves, at the training context"
    with style.styled():
        canvas = figures.FIGURES["accuracy_bars"](dataclasses.replace(_bars(study), title=title), root).canvas
        canvas.draw_without_rendering()
        words = next(text for text in canvas.texts if text.get_text().replace("\n", " ") == title)
        assert words.get_window_extent().x1 <= canvas.bbox.width


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", ["GRPO with sixteen samples per problem, no mask", "L" * 200])
@pytest.mark.filterwarnings("error")
def test_long_labels_leave_room_for_the_data(kind, words, filled):
    root, study = filled
    arms = tuple(dataclasses.replace(arm, label=f"{words} {number}") for number, arm in enumerate(study.arms))
    settings = Figure(draw=kind, title="T", study=dataclasses.replace(study, arms=arms))
    with style.styled():
        canvas = figures.FIGURES[kind](settings, root).canvas
        canvas.draw_without_rendering()
        for axes in canvas.axes:
            names = [*axes.texts, *axes.get_yticklabels(), axes.xaxis.label]
            boxes = [name.get_window_extent() for name in names if name.get_text().strip()]
            assert all(box.x0 >= -1 and box.x1 <= canvas.bbox.width + 1 for box in boxes)
            assert axes.bbox.width > 0.05 * canvas.bbox.width
        rows = [name.get_window_extent() for name in canvas.axes[0].get_yticklabels()]
        rows.sort(key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in zip(rows, rows[1:], strict=False))


def test_every_kind_says_what_it_reads():
    assert set(FIGURE_READS) == set(figures.FIGURES)


def test_an_unknown_kind_is_one_line(filled, tmp_path):
    settings = dataclasses.replace(_bars(filled[1]), draw="pie")
    with pytest.raises(UserError, match=r"figures\.fig9\.draw: no kind of figure is 'pie'; choose accuracy_bars"):
        figures.draw("fig9", settings, filled[0], tmp_path / "x", tmp_path / "x.csv")


def test_a_missing_run_is_one_line_and_writes_nothing(finished, tmp_path):
    study = make_study(("grpo",), seeds=2)
    root = finished(study)
    (root / "evals/pupil-stories-grpo-s2/stories/greedy/graded.jsonl").unlink()
    with pytest.raises(UserError, match="pupil-stories-grpo-s2/stories/greedy/graded.jsonl: missing"):
        figures.draw("fig3a", _bars(study), root, tmp_path / "out" / "fig3a", tmp_path / "out" / "fig3a.csv")
    assert not (tmp_path / "out").exists()


def test_bar_table_holds_every_plotted_number(filled):
    root, study = filled
    table = bars.bar_table(_bars(study), root)
    counts = table.groupby("kind").size().to_dict()
    assert counts == {"mean": 4, "seed": 10, "paper": 4}
    chain = table[table["method"] == "spo_chain"].set_index("kind")
    expected = stats.mean_over_seeds(results.correctness(root, study, study.arms[1], 256))
    assert tuple(chain.loc["mean", ["accuracy", "low", "high"]]) == pytest.approx(expected)
    assert chain.loc["seed", "accuracy"].mean() == pytest.approx(expected.value)
    assert chain.loc["paper", "accuracy"] == pytest.approx(0.567)
    assert chain.loc["mean", ["n", "seeds"]].tolist() == [200, 3]


def test_bars_show_labels_seeds_and_the_papers_number(filled):
    root, study = filled
    with style.styled():
        drawn = figures.FIGURES["accuracy_bars"](_bars(study), root)
    axes = drawn.canvas.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SFT base", "GRPO", "SPO-chain", "SPO-tree"]
    words = [text.get_text() for text in axes.texts]
    assert "paper: 56.7" in words
    assert axes.get_xlabel() == "test accuracy (%)"
    assert "3 seeds, n = 200 problems" in drawn.caption
    assert "Fig. 3a" in drawn.caption
    assert "3 seeds, n = 200 problems" in drawn.canvas.get_supxlabel().replace("\n", " ")


def test_bars_of_methods_that_are_not_run_are_quoted(filled):
    root, study = filled
    numbers = {"PPO": (42.8, "from the plot"), "RestEM": (34.9, "from the plot")}
    quoted = tuple(
        Quoted(label=label, number=PaperNumber(method=label.lower(), value=value, where="Fig. 9", note=note))
        for label, (value, note) in numbers.items()
    )
    settings = dataclasses.replace(_bars(study), quoted=quoted)
    with style.styled():
        drawn = figures.FIGURES["accuracy_bars"](settings, root)
        drawn.canvas.savefig(root / "quoted.png")
    axes = drawn.canvas.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][-3:] == ["SPO-tree", "PPO", "RestEM"]
    hollow = [bar for bar in axes.patches if bar.get_hatch()]
    assert [bar.get_width() for bar in hollow] == [42.8, 34.9]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in hollow] == [4, 5]
    assert {"42.8", "34.9"} <= {text.get_text() for text in axes.texts}
    rows = drawn.table[drawn.table["kind"] == "quoted"]
    assert rows[["label", "accuracy", "where", "note"]].to_numpy().tolist() == [
        ["PPO", 0.428, "Fig. 9", "from the plot"],
        ["RestEM", 0.349, "Fig. 9", "from the plot"],
    ]
    assert "Hatched: not run here, quoted from Fig. 9 (from the plot)." in drawn.caption
    assert "hatched: quoted, not run here" in drawn.canvas.get_supxlabel().replace("\n", " ")


def test_curve_table_compares_seeds_at_equal_x():
    # Seed 2 takes twice as long an iteration, so at 10 s seed 1 has 0.6 and seed 2 half of the way from 0.2 to 0.5.
    frame = pd.DataFrame(
        {
            "method": "grpo",
            "seed": [1, 1, 2, 2],
            "iteration": [0, 10, 0, 10],
            "seconds": [0.0, 10.0, 0.0, 20.0],
            "validation_accuracy": [0.2, 0.6, 0.2, 0.5],
        }
    )
    table = curves.curve_table(make_study(("grpo",)).arms, frame, "seconds")
    means = table[table["kind"] == "mean"]
    assert means["x"].tolist() == [0.0, 10.0]
    assert means["accuracy"].tolist() == pytest.approx([0.2, (0.6 + 0.35) / 2])
    assert table[table["kind"] == "seed"]["accuracy"].tolist() == [0.2, 0.6, 0.2, 0.5]
    iterations = curves.curve_table(
        make_study(("grpo",)).arms, frame.rename(columns={"iteration": "iteration"}), "iterations"
    )
    assert iterations[iterations["kind"] == "mean"]["accuracy"].tolist() == pytest.approx([0.2, 0.55])


def test_curves_have_units_a_label_for_each_line_and_no_legend(filled):
    root, study = filled
    with style.styled():
        drawn = figures.FIGURES["learning_curves"](_curves(study), root)
    panels = drawn.canvas.axes
    names = ["training time (minutes)", "generated tokens (millions)", "iterations"]
    assert [axes.get_xlabel() for axes in panels] == names
    assert panels[0].get_ylabel() == "validation accuracy (%)"
    assert all(axes.get_legend() is None for axes in panels)
    labels = " ".join(text.get_text() for text in panels[-1].texts)
    assert all(arm.label in labels for arm in study.arms)
    assert "n = 300" in drawn.canvas.get_supxlabel()
    assert "300 validation problems" in drawn.caption
    assert set(drawn.table["axis"]) == {"seconds", "tokens", "iterations"}


def test_one_panel_names_the_papers_number_at_the_line_end(filled):
    root, study = filled
    settings = dataclasses.replace(_curves(study, x=("seconds",)), paper=paper_numbers("Fig. 5a"))
    with style.styled():
        drawn = figures.FIGURES["learning_curves"](settings, root)
    assert "  paper: 44.6" in [text.get_text() for text in drawn.canvas.axes[0].texts]
    assert "Paper, Fig. 5a, GRPO: 44.6 %" in drawn.caption


def test_direct_labels_never_overlap_with_eight_methods(tmp_path):
    study = make_study(tuple(LABELS))
    fill(tmp_path, study, problems=20, iterations=20)
    with style.styled():
        drawn = figures.FIGURES["learning_curves"](_curves(study), tmp_path)
        drawn.canvas.draw_without_rendering()
        axes = drawn.canvas.axes[-1]
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text().strip()]
        width = drawn.canvas.bbox.width
    assert len(boxes) == 8
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False))
    assert all(box.x1 <= width for box in boxes)


def test_a_study_without_base_or_success_still_draws(tmp_path):
    study = make_study(("grpo",), seeds=1, base=None)
    fill(tmp_path, make_study(("grpo",), seeds=1), problems=20, iterations=10)
    for path in tmp_path.rglob("*.jsonl"):
        path.write_text(path.read_text().replace('"correct": true', '"correct": false'))
    for settings in (_bars(study), _curves(study)):
        figures.draw("fig", settings, tmp_path, tmp_path / "fig", tmp_path / "fig.csv")
    caption = (tmp_path / "fig.txt").read_text()
    assert "one seed each" in caption
    assert "interval" not in caption


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.floats(0, 20))
def test_push_apart_keeps_order_and_distance(wanted, gap):
    placed = style.push_apart(np.array(wanted), gap, low=0)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(placed[order]) >= gap - 1e-6).all()
    assert placed.min() >= -1e-9


def test_push_apart_is_the_least_squares_solution():
    # Wanted 0, 1, 1, 5 at least 2 apart: less the steps 0, 2, 4, 6 that is 0, -1, -3, -1; the first three pool to -4/3.
    placed = style.push_apart(np.array([0.0, 1.0, 1.0, 5.0]), 2.0)
    assert placed.tolist() == pytest.approx([-4 / 3, 2 / 3, 8 / 3, 5.0])


def test_push_apart_stays_within_bounds_where_there_is_room():
    assert style.push_apart(np.array([9.0, 10.0, 10.0]), 2.0, 0.0, 10.0).tolist() == [6.0, 8.0, 10.0]


def test_small_text_in_any_colour_is_readable_on_white():
    def contrast(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return 1.05 / (float(linear @ np.array([0.2126, 0.7152, 0.0722])) + 0.05)

    assert all(
        contrast(style.darker(colour)) >= 4.5 for colour in ("#F0E442", "#56B4E9", "#E69F00", "#CC79A7", "#009E73")
    )
    assert style.darker("#000000") == "#000000"


def test_analysis_imports_neither_torch_nor_transformers():
    script = (
        "import sys; from spo.analysis import examples, figures, report, results, slices, statements, stats, tables; "
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
