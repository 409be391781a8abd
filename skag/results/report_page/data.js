"use strict";
// All names and texts of the data reach the page as text nodes, attributes or canvas text, never as markup.
const report = JSON.parse(document.getElementById("data").textContent);
const { classes, joints, bones, clips, texts } = report;
const rows = report.analysis.per_class;
const byId = id => document.getElementById(id);
const text = number => number === null || number === undefined ? "" : texts[number];
const percent = (value, digits = 0) => value === null || value === undefined ? "none" : value.toFixed(digits) + " %";
const signed = value => (value > 0 ? "+" : "") + value.toFixed(1);
const count = (number, what, many = what + "s") => number.toLocaleString("en") + " " + (number === 1 ? what : many);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");

function make(tag, properties = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !tag.startsWith("svg:")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}
const plain = (tag, content, className = "") => make(tag, { className, textContent: content });
const classLink = k => make("a", { href: "#class-" + k, textContent: classes[k] });
const pairLink = (m, n, ...content) => make("a", { href: "#pair-" + m + "-" + n }, ...content);
const arrow = () => make("span", { className: "arrow", textContent: " → " });

// what was counted

const size = classes.length;
const counts = classes.map(() => new Map());
const total = new Array(size).fill(0);
for (const [m, n, clipsOfPair] of report.counts) {
  counts[m].set(n, clipsOfPair);
  total[m] += clipsOfPair;
}
const confused = (m, n) => counts[m].get(n) ?? 0;
const share = (m, n) => total[m] ? confused(m, n) / total[m] : 0;
const pairs = report.counts.filter(([m, n]) => m !== n).sort((a, b) => b[2] - a[2] || share(b[0], b[1]) - share(a[0], a[1]));
const takenFor = k => pairs.filter(([m]) => m === k);
const takenForThis = k => pairs.filter(([, n]) => n === k);
const setOf = new Map();
for (const [name, found] of Object.entries(report.analysis.sets)) for (const member of found.classes) setOf.set(member, name);
const difficulty = k => setOf.get(rows[k].class) ?? "";
const setColour = { hard: "var(--wrong)", medium: "var(--mark)", easy: "var(--right)", "": "var(--line)" };
const colours = {};
function readColours() {  // canvases are painted with the style sheet's colours, which the reader's settings choose
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "ink", "muted", "line", "right", "wrong", "mark", "bone"]) colours[name] = style.getPropertyValue("--" + name).trim();
}
readColours();
const criticalOf = k => report.critical ? report.critical[k].joints.map(([joint]) => joint) : [];
