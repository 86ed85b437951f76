"""Style and script of results/trajectories.html."""

PAGE_STYLE = """
:root { --bar: #0057b8; --cut: #b71c1c; --gain: #1b7837; --loss: #762a83; --unsure: 244 138 48; --up: 27 140 62;
  --down: 130 50 150; --worth: 0 87 184; }
@media (prefers-color-scheme: dark) { :root { --bar: #6db3f2; --cut: #ff8a80; --gain: #6fd08f; --loss: #d59be8; } }
body { padding-bottom: 9rem; }
.controls { display: flex; flex-wrap: wrap; gap: 0.5rem 0.8rem; align-items: center; margin: 0.6rem 0; border: 0;
  padding: 0; }
.controls legend { float: left; margin-right: 0.2rem; padding: 0; }
.controls label { display: inline-flex; align-items: center; gap: 0.3rem; min-height: 44px; padding-right: 0.6rem; }
.controls button, .controls select { font: inherit; color: inherit; background: var(--card); min-height: 44px;
  border: 1px solid var(--line); border-radius: 6px; }
.controls button { min-width: 44px; font-size: 1.3rem; cursor: pointer; }
.controls select { flex: 1 1 9rem; min-width: 0; max-width: 34rem; padding: 0 0.4rem; }
.controls .quiet { margin: 0; }
:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
article h2 { border-top: 0; margin-top: 0.6rem; }
.stepping article { display: none; }
.stepping article.current { display: block; }
.key { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0.5rem 0; }
.key > span { display: inline-flex; align-items: center; gap: 0.4rem; }
.scale { width: 4.5rem; height: 0.9rem; border-radius: 3px; }
.scale.probability { background: linear-gradient(to right, rgb(var(--unsure) / 0.9), rgb(var(--unsure) / 0)); }
.scale.advantage { background: linear-gradient(to right, rgb(var(--down) / 0.6), transparent, rgb(var(--up) / 0.6)); }
.by-probability .for-advantage, .by-advantage .for-probability { display: none !important; }
.bar { display: inline-block; height: 1.1rem; border-left: 3px solid var(--bar); }
.response { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); border-radius: 6px;
  padding: 0.9rem; font: 0.95rem/2.1 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.segment { border-left: 3px solid var(--bar); padding: 0.15rem 0; cursor: pointer; }
.segment::before { content: attr(data-label); font: 600 0.66rem/1 system-ui, sans-serif; vertical-align: 0.75em;
  margin: 0 0.2rem 0 0.15rem; color: var(--quiet); }
.segment.gain::before { color: var(--gain); } .segment.loss::before { color: var(--loss); }
.segment.told, .segment:hover { text-decoration: underline 1px var(--quiet); text-underline-offset: 0.55em; }
.segment i { color: var(--quiet); font-style: normal; }
.t { padding: 0.1rem 0; border-radius: 2px; }
.t.cutpoint { color: var(--cut); font-weight: 700; border-bottom: 2px solid var(--cut); }
.by-probability .t { background: rgb(var(--unsure) / calc(0.9 * (1 - var(--p, 1)))); }
.by-advantage .segment.gain { background: rgb(var(--up) / calc(0.12 + 0.6 * var(--a))); }
.by-advantage .segment.loss { background: rgb(var(--down) / calc(0.12 + 0.6 * var(--a))); }
.chart { margin: 0.8rem 0; max-width: 40rem; }
.chart svg, svg.tree { display: block; width: 100%; height: auto; }
.chart path { fill: none; stroke: var(--line); stroke-width: 1.5; }
.chart polyline { fill: none; stroke: var(--bar); stroke-width: 2; }
.chart circle { fill: var(--bar); }
svg.tree { max-width: 40rem; margin-top: 0.6rem; }
.tree path { fill: none; stroke-width: 1.4; stroke: var(--line); }
.tree path.gain { stroke: var(--gain); } .tree path.loss { stroke: var(--loss); }
.node { cursor: pointer; } .node:focus { outline: none; }
.node circle { fill: color-mix(in srgb, rgb(var(--worth)) calc(100% * var(--v) * 0.45), var(--paper));
  stroke: var(--quiet); stroke-width: 1; }
.node.told circle, .node:focus-visible circle { stroke: var(--bar); stroke-width: 3; }
.node rect { fill: var(--paper); }
.node text { font: 600 8px system-ui, sans-serif; fill: var(--ink); }
.node text.gain { fill: var(--gain); } .node text.loss { fill: var(--loss); } .node text.even { fill: var(--quiet); }
#readout { position: fixed; left: 0; right: 0; bottom: 0; background: var(--card); border-top: 1px solid var(--line);
  padding: 0.6rem 1rem; max-height: 45vh; overflow-y: auto; font-size: 0.95rem; min-height: 3.2rem; }
#readout pre { background: none; margin: 0.3rem 0 0; padding: 0; }
#readout .before { color: var(--quiet); }
#readout mark { background: rgb(var(--worth) / 0.25); color: inherit; }
"""

SCRIPT = """
"use strict";
const articles = [...document.querySelectorAll("article")];
const choose = document.getElementById("choose");
const readout = document.getElementById("readout");
const hint = readout.textContent;
let current = 0;

function show(number, told = true) {
  current = (number + articles.length) % articles.length;
  articles.forEach((article, i) => article.classList.toggle("current", i === current));
  choose.selectedIndex = current;
  document.getElementById("place").textContent = `${current + 1} of ${articles.length}`;
  tell(null);
  if (told) history.replaceState(null, "", "#" + articles[current].dataset.name);
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function tell(thing, token) {
  document.querySelectorAll(".told").forEach((other) => other.classList.remove("told"));
  readout.replaceChildren();
  if (!thing) return readout.append(hint);
  thing.classList.add("told");
  readout.append(element("div", thing.dataset.says));
  if (token) {
    const text = token.textContent.trim() || "blank";
    readout.append(element("div", `Token “${text}”: probability ${token.style.getPropertyValue("--p")}`, "before"));
  }
  if (thing.dataset.node) readout.append(written(thing));
}

// The text of a node after that of the nodes above it.
function written(node) {
  const named = (number) => node.parentNode.querySelector(`[data-node="${number}"]`);
  let before = "";
  for (let above = named(node.dataset.parent); above; above = named(above.dataset.parent)) {
    before = above.dataset.text + before;
  }
  const text = document.createElement("pre");
  text.append(element("span", before, "before"), element("mark", node.dataset.text));
  return text;
}

function about(event) {
  const thing = event.target.closest?.(".segment, .node");
  if (thing) tell(thing, event.type === "focusin" ? null : event.target.closest(".t"));
}

for (const type of ["mouseover", "focusin", "click"]) document.querySelector("main").addEventListener(type, about);
document.getElementById("previous").addEventListener("click", () => show(current - 1));
document.getElementById("next").addEventListener("click", () => show(current + 1));
choose.addEventListener("change", () => show(choose.selectedIndex));
for (const radio of document.querySelectorAll("[name=colour]")) {
  radio.addEventListener("change", () => { document.body.className = radio.value; });
}
document.addEventListener("keydown", (event) => {
  if (event.target.closest?.("select, input") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") show(current - 1);
  else if (event.key === "ArrowRight") show(current + 1);
  else if (event.key === "Escape") tell(null);
  else return;
  event.preventDefault();
});
function follow() {
  const asked = articles.findIndex((article) => "#" + article.dataset.name === location.hash);
  if (asked !== -1) show(asked, false);
}
window.addEventListener("hashchange", follow);
document.querySelector("main").classList.add("stepping");
show(0, false);
follow();
"""
