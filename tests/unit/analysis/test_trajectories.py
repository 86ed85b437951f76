"""The page of trajectories: complete and escaped as text, and alive in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import pytest

from spo.analysis.trajectories import Page, Shown, tree_places, write
from spo.errors import UserError
from tests import traced

PAGE = Page(
    title="Trajectories & trees",
    traces=(
        Shown(title="first", file="traces/one.json", policy="the SFT base"),
        Shown(title="second", file="traces/two.json", policy="GRPO, seed 1"),
    ),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    (root / "traces").mkdir()
    for name in ("one", "two"):
        (root / f"traces/{name}.json").write_text(json.dumps(traced.trace()), encoding="utf-8")
    write(PAGE, root, root / "trajectories.html")
    return root / "trajectories.html"


class Reader(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.inside: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.inside):
            self.text += data


def test_everything_is_there_and_escaped(page):
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    assert text.count("<script>") == 1 and "alert('x')</script>" not in text
    assert "Is 1 < 2? <script>alert('x')</script>" in reader.text and "Trajectories & trees" in reader.text
    assert sum(tag == "article" for tag, _ in reader.tags) == sum(tag == "option" for tag, _ in reader.tags) == 4
    nodes = [attributes for _, attributes in reader.tags if attributes.get("class") == "node"]
    assert len(nodes) == 2 * (5 + 1)
    assert nodes[4]["data-text"] == " <script>alert('x')</script>" and nodes[4]["data-parent"] == "1"
    says = [attributes["data-says"] for _, attributes in reader.tags if "data-says" in attributes]
    assert says[:2] == [
        "Segment 1 of 2: value .50 → .25, advantage −.25; 3 tokens, 1 cutpoint",
        "Segment 2 of 2: value .25 → 1, advantage +.75; 4 tokens, 2 cutpoints",
    ]
    assert "Segment 1 of 1: value not estimated → 0, advantage 0; 40 tokens, 0 cutpoints" in says
    assert "Segment: value 0, advantage −.50; 2 tokens, a whole response" in says
    assert "GRPO, seed 1" in reader.text and "the mean reward of 4 rollouts" in reader.text


def test_the_page_needs_no_network(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|url\(|https?:|@import|fetch\(|XMLHttpRequest", text)


def test_everything_that_can_be_pointed_at_can_be_reached_by_keyboard(page):
    tags = Reader(page.read_text(encoding="utf-8")).tags
    pointed = [attributes for _, attributes in tags if "data-says" in attributes]
    assert pointed and all(each["tabindex"] == "0" and each["aria-label"] == each["data-says"] for each in pointed)


def test_the_same_traces_give_the_same_page(page, tmp_path):
    write(PAGE, page.parent, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_a_missing_trace_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"one\.json: missing; run `snakemake"):
        write(PAGE, tmp_path, tmp_path / "page.html")


def test_a_deep_tree_has_a_row_a_leaf():
    # 0 has 1 and 2; 1 has 3; 3 has 4 and 5: leaves 4, 5, 2 from the top.
    assert tree_places([-1, 0, 0, 1, 3, 3]) == [(0, 1.25), (1, 0.5), (1, 2.0), (2, 0.5), (3, 0.0), (3, 1.0)]


#: Steps through the page as a reader does and writes down, as JSON, what is then to be seen.
PROBE = """
<script>
{
const seen = {};
const look = (name) => {
  seen[name] = { place: document.getElementById("place").textContent,
    shown: [...document.querySelectorAll("article")].filter((a) => a.offsetHeight > 0).map((a) => a.dataset.name),
    readout: document.getElementById("readout").textContent,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
};
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const inside = (kind) => document.querySelectorAll(`article.current ${kind}`);
look("start");
press("ArrowLeft"); look("left of the first");
press("ArrowRight"); press("ArrowRight"); look("second");
choose.selectedIndex = 2; choose.dispatchEvent(new Event("change"));
look("chosen");
inside(".segment")[1].focus(); look("segment focused");
press("Escape"); look("nothing");
const mouse = (thing, type) => thing.dispatchEvent(new MouseEvent(type, { bubbles: true }));
mouse(inside(".segment .t")[0], "click"); look("token tapped");
mouse(inside(".node")[4], "mouseover"); look("node hovered");
const ground = () => getComputedStyle(inside(".segment.gain")[0]).backgroundColor;
const before = ground();
document.querySelector("[value=by-advantage]").click();
seen.recoloured = before !== ground();
seen.width = innerWidth;
parent.postMessage(JSON.stringify(seen), "*");
}
</script>
"""


#: Browsers make no window as narrow as a phone, but any frame.
FRAME = """
<!doctype html><script>
addEventListener("message", (event) => { document.documentElement.dataset.seen = event.data; });
</script><iframe src="probe.html" width="{width}" height="844" frameborder="0"></iframe>
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_steps_through_it(page, width, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium or Chrome: install one to test the page as readers see it")
    text = page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>")
    (tmp_path / "probe.html").write_text(text, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=3000", f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr
    seen = json.loads(unescape(found[1]))
    assert seen.pop("width") == width and seen.pop("recoloured") is True
    assert {name: each["shown"] for name, each in seen.items()} == {
        "start": ["one-1"],
        "left of the first": ["two-2"],
        "second": ["one-2"],
        **dict.fromkeys(("chosen", "segment focused", "nothing", "token tapped", "node hovered"), ["two-1"]),
    }
    assert [each["place"] for each in seen.values()][:4] == ["1 of 4", "4 of 4", "2 of 4", "3 of 4"]
    assert seen["start"]["readout"] == seen["nothing"]["readout"] == seen["chosen"]["readout"]
    assert seen["segment focused"]["readout"].startswith("Segment 2 of 2: value .25 → 1, advantage +.75")
    assert "Token “7”: probability 0.500" in seen["token tapped"]["readout"]
    # the text of a node comes after that of the nodes above it
    assert seen["node hovered"]["readout"].endswith("1 < <script>alert('x')</script>")
    assert all(each["wide"] == 0 for each in seen.values())
