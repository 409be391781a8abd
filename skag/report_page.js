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

// ---- what was counted

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

// ---- clips that move

const LEVELS = 4094, REACH = 1.5, TRAIL = 0.5;  // of the coding in report.py; seconds
const digit = new Uint8Array(128);
for (const [value, sign] of [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].entries()) digit[sign.charCodeAt(0)] = value;
const decoded = new Map();

function decode(number) {
  if (decoded.has(number)) return decoded.get(number);
  const { points, bodies } = clips[number], dims = report.flat ? 2 : 3;
  const values = new Float32Array(points.length / 2);
  for (let i = 0; i < values.length; i++) {
    const level = 64 * digit[points.charCodeAt(2 * i)] + digit[points.charCodeAt(2 * i + 1)];
    values[i] = level > LEVELS ? NaN : (2 * level / LEVELS - 1) * REACH;
  }
  const perFrame = bodies * joints.length * dims, length = values.length / perFrame;
  const box = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < values.length; i += dims) {
    if (!(Math.abs(values[i]) < 1.1 && Math.abs(values[i + 1]) < 1.1)) continue;  // a joint that jumped away
    box[0] = Math.min(box[0], values[i]);
    box[1] = Math.max(box[1], values[i]);
    box[2] = Math.min(box[2], values[i + 1]);
    box[3] = Math.max(box[3], values[i + 1]);
  }
  const clip = { values, bodies, dims, length, box, step: clips[number].step, perFrame };
  decoded.set(number, clip);
  return clip;
}

function pointAt(clip, time, body, joint, yaw) {  // across and up, in the clip's units; null where there is no joint
  const at = Math.min(Math.max(time / clip.step, 0), clip.length - 1), frame = Math.floor(at), part = at - frame;
  const offset = (body * joints.length + joint) * clip.dims;
  const one = frame * clip.perFrame + offset, two = Math.min(frame + 1, clip.length - 1) * clip.perFrame + offset;
  const mixed = axis => {
    const a = clip.values[one + axis], b = clip.values[two + axis];
    return Number.isNaN(b) ? a : Number.isNaN(a) ? (part > .5 ? b : a) : a + (b - a) * part;
  };
  const x = mixed(0), y = mixed(1);
  if (Number.isNaN(x)) return null;
  return [clip.dims === 2 ? x : x * Math.cos(yaw) + mixed(2) * Math.sin(yaw), y];
}

function drawPose(canvas, number, time, critical, yaw, chosen) {
  const width = canvas.clientWidth, height = canvas.clientHeight, scale = Math.min(devicePixelRatio || 1, 2);
  if (!width) return;
  if (canvas.width !== Math.round(width * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d"), clip = decode(number), [left, right, low, high] = clip.box;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const unit = Math.min(width * .84 / Math.max(right - left, .7), height * .84 / Math.max(high - low, .7));
  const across = (left + right) / 2 * Math.cos(yaw), up = (low + high) / 2;
  const place = point => point && [width / 2 + (point[0] - across) * unit, height / 2 - (point[1] - up) * unit];
  const thick = Math.max(2, Math.min(width, height) / 75), isCritical = new Set(critical);
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  const ground = height / 2 + (up - low) * unit + thick;
  pen.beginPath();
  pen.moveTo(width * .06, ground);
  pen.lineTo(width * .94, ground);
  pen.stroke();
  for (let body = clip.bodies - 1; body >= 0; body--) {
    const points = joints.map((_, joint) => place(pointAt(clip, time, body, joint, yaw)));
    pen.globalAlpha = body ? .5 : 1;
    pen.lineWidth = thick;
    pen.strokeStyle = colours.bone;
    for (const [a, b] of bones) {
      if (!points[a] || !points[b]) continue;
      pen.beginPath();
      pen.moveTo(...points[a]);
      pen.lineTo(...points[b]);
      pen.stroke();
    }
    for (const joint of critical) drawTrail(pen, clip, time, body, joint, yaw, place, thick);
    pen.globalAlpha = body ? .5 : 1;
    points.forEach((point, joint) => {
      if (!point) return;
      const marked = isCritical.has(joint), radius = joint === chosen ? 2.3 * thick : marked ? 1.6 * thick : .75 * thick;
      pen.beginPath();
      pen.arc(...point, radius, 0, 7);
      pen.fillStyle = marked || joint === chosen ? colours.mark : colours.bone;
      pen.fill();
      if (!marked && joint !== chosen) return;
      pen.lineWidth = joint === chosen ? 2.5 : 1.2;
      pen.strokeStyle = joint === chosen ? colours.ink : colours.paper;
      pen.stroke();
    });
    if (chosen !== null && points[chosen] && !body) drawName(pen, points[chosen], joints[chosen], width, thick);
  }
  pen.globalAlpha = 1;
}

function drawTrail(pen, clip, time, body, joint, yaw, place, thick) {
  pen.strokeStyle = colours.mark;
  pen.lineWidth = thick * .7;
  const parts = 10;
  let before = null;
  for (let i = 0; i <= parts; i++) {
    const then = time - TRAIL * (1 - i / parts);
    if (then < 0) continue;
    const point = place(pointAt(clip, then, body, joint, yaw));
    if (point && before) {
      pen.globalAlpha = (body ? .4 : .75) * i / parts;
      pen.beginPath();
      pen.moveTo(...before);
      pen.lineTo(...point);
      pen.stroke();
    }
    before = point;
  }
}

function drawName(pen, [x, y], name, width, thick) {
  pen.font = "600 13px system-ui, sans-serif";
  const side = x > width / 2 ? -1 : 1;
  pen.textAlign = side < 0 ? "right" : "left";
  pen.textBaseline = "middle";
  pen.lineWidth = 4;
  pen.strokeStyle = colours.paper;
  pen.strokeText(name, x + side * 3.2 * thick, y);
  pen.fillStyle = colours.ink;
  pen.fillText(name, x + side * 3.2 * thick, y);
}

const groups = new Set();  // of stages that are on the page
let moving = !calm.matches;
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) entry.target.onPage = entry.isIntersecting;
});

// Stages that play together: `stages` hold {clip, critical, kind, title, note}
function player(stages, { height = 260 } = {}) {
  const group = { time: 0, playing: moving, yaw: 0, chosen: null, stages: [], dirty: true, drawn: false };
  const length = () => Math.max(...group.stages.map(({ clip }) => (decode(clip).length - 1) * decode(clip).step), .1);
  const box = make("div", { className: "stages" + (report.flat ? "" : " turns") });
  const play = make("button", { type: "button", className: "play" });
  const when = make("input", { type: "range", min: 0, max: 1000, value: 0, oninput: () => { group.playing = false; group.time = when.value / 1000 * length(); update(); } });
  const turn = make("input", { type: "range", min: -90, max: 90, value: 0, oninput: () => { group.yaw = turn.value * Math.PI / 180; group.dirty = true; } });
  const controls = make("div", { className: "controls" }, play, make("label", {}, "Time ", when), report.flat ? null : make("label", {}, "Turn ", turn));
  const update = () => {
    play.textContent = group.playing ? "Pause" : "Play";
    group.dirty = true;
  };
  play.addEventListener("click", () => { group.playing = !group.playing; update(); });
  group.show = shown => {
    group.stages = shown.map(({ clip, critical, kind = "", title, note = "" }) => {
      const canvas = make("canvas", { role: "img", ariaLabel: "Moving skeleton: " + title + (note ? ", " + note : "") });
      canvas.style.height = height + "px";
      watcher.observe(canvas);
      let held = null;
      canvas.addEventListener("pointerdown", event => { held = event.clientX; });
      canvas.addEventListener("pointermove", event => {
        if (held === null || report.flat || !event.buttons) return;
        turn.value = Number(turn.value) + (event.clientX - held) / 2;
        held = event.clientX;
        turn.dispatchEvent(new Event("input"));
      });
      for (const name of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(name, () => { held = null; });
      const caption = make("figcaption", {}, plain("strong", title), plain("span", note), " ", plain("span", clips[clip].name, "name"));
      return { clip, critical, canvas, figure: make("figure", { className: "stage " + kind }, canvas, caption) };
    });
    box.replaceChildren(...group.stages.map(({ figure }) => figure));
    group.drawn = false;
    group.time = group.playing ? 0 : length() * .6;  // at rest a pose in the midst of it says most
    update();
  };
  group.step = seconds => {
    const seen = group.stages.some(({ canvas }) => canvas.onPage);
    if (group.playing && seen) {
      group.time += seconds;
      if (group.time > length() + .5) group.time = 0;  // half a second of rest at the end
      group.dirty = true;
    }
    if (group.dirty && (seen || !group.drawn)) group.draw();
  };
  group.draw = () => {
    group.dirty = false;
    group.drawn = true;
    const position = Math.round(1000 * Math.min(group.time / length(), 1));
    if (Number(when.value) !== position) when.value = position;
    for (const { clip, critical, canvas } of group.stages) drawPose(canvas, clip, group.time, critical, group.yaw, group.chosen);
  };
  group.update = update;
  group.node = make("div", {}, box, controls);
  group.choose = joint => { group.chosen = joint; group.dirty = true; };
  group.show(stages);
  groups.add(group);
  return group;
}

let last = performance.now();
function tick(now) {
  const seconds = Math.min((now - last) / 1000, .1);
  last = now;
  for (const group of groups) {
    if (group.node.isConnected) group.step(seconds);
    else groups.delete(group);
  }
  requestAnimationFrame(tick);
}

function showMotion() {
  byId("motion").textContent = moving ? "Pause motion" : "Play motion";
}
byId("motion").addEventListener("click", () => {
  moving = !moving;
  for (const group of groups) {
    group.playing = moving;
    group.update();
  }
  showMotion();
});

// ---- overview

function renderOverview() {
  const { top1, top1_low, top1_high, top5, mean_class, ece, ece_by_chance, clips: tested, comparison } = report.analysis;
  byId("facts").append(...report.facts.map(([name, value]) => make("div", {}, plain("dt", name), plain("dd", value))));
  byId("facts").after(...report.analysis.remarks.map(remark => plain("p", remark, "notice")));
  const tile = (name, value, remark) => make("div", {}, plain("dt", name), plain("dd", value), plain("dd", remark));
  byId("tiles").append(
    tile("Top-1", percent(top1, 1), `95 % interval ${top1_low.toFixed(1)} to ${top1_high.toFixed(1)}`),
    tile("Top-5", percent(top5, 1), "right among the five likeliest"),
    tile("Mean over classes", percent(mean_class, 1), "every class counts alike"),
    tile("Calibration error", percent(ece, 1), ece > ece_by_chance ? "more than chance makes" : "within chance"),
    ...(comparison ? [tile("Against the reference", signed(comparison.difference), `${comparison.difference_low.toFixed(1)} to ${comparison.difference_high.toFixed(1)}, ${comparison.clear ? "a clear difference" : "within noise"}`)] : []),
    tile("Clips", tested.toLocaleString("en"), "split " + report.split),
    ...(comparison ? [] : [tile("Classes", size.toLocaleString("en"), count(new Set(pairs.map(([m]) => m)).size, "has errors", "have errors"))]),
  );
  const names = { hard: "below 70 %", medium: "70 to 90 %", easy: "above 90 %" }, bar = make("div", { className: "set-bar", ariaHidden: "true" });
  const list = make("ul", {});
  for (const [name, found] of Object.entries(report.analysis.sets)) {
    const part = painted(make("span"), { flexGrow: found.classes.length, background: setColour[name] });
    if (found.classes.length) bar.append(part);
    list.append(make("li", {}, painted(plain("span", "", "swatch"), { background: setColour[name] }), ` ${found.classes.length} ${name} `, plain("span", names[name] + (found.accuracy === null ? "" : ", mean " + percent(found.accuracy, 1)), "quiet")));
  }
  byId("sets").append(bar, list);
  renderTraining();
}

function line(points, properties) {
  return make("svg:polyline", { points: points.map(point => point.map(value => value.toFixed(1)).join(",")).join(" "), fill: "none", ...properties });
}
function painted(node, style) {  // by properties: the content policy allows no style attributes
  Object.assign(node.style, style);
  return node;
}
const svgText = (x, y, content, anchor = "start") => make("svg:text", { x, y, "text-anchor": anchor }, content);

function renderTraining() {
  const { epochs, train, held_out, kept } = report.course, figure = byId("training");
  if (epochs.length < 2) {
    figure.append(plain("figcaption", "The run folder holds no record of its training."));
    return;
  }
  const final = epochs[epochs.length - 1], w = 440, h = 190, left = 34, top = 10, bottom = 28;
  const x = epoch => left + (w - left - 8) * (epoch - 1) / Math.max(final - 1, 1), y = value => top + (h - top - bottom) * (1 - value / 100);
  const picture = make("svg:svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `Accuracy after every epoch: on the clips that choose the epoch ${percent(held_out[0])} at first and ${percent(held_out[held_out.length - 1])} at last` });
  for (const value of [0, 50, 100]) picture.append(painted(line([[left, y(value)], [w - 8, y(value)]], {}), { stroke: "var(--line)" }), svgText(left - 6, y(value) + 4, value, "end"));
  const asking = report.refreshes.filter(({ classes: entries }) => entries.some(({ said }) => said));
  for (const { epoch } of asking) picture.append(painted(line([[x(epoch), h - bottom - 9], [x(epoch), h - bottom]], {}), { stroke: "var(--mark)", strokeWidth: 3 }));
  const drawn = values => values.map((value, at) => [x(epochs[at]), y(value)]);
  picture.append(painted(line(drawn(train), {}), { stroke: "var(--bone)", strokeWidth: 1.5 }), painted(line(drawn(held_out), {}), { stroke: "var(--right)", strokeWidth: 2.5 }));
  if (kept !== null && epochs.includes(kept)) {
    picture.append(painted(make("svg:circle", { cx: x(kept), cy: y(held_out[epochs.indexOf(kept)]), r: 5 }), { fill: "var(--right)", stroke: "var(--panel)", strokeWidth: 2 }));
  }
  picture.append(svgText(left, h - 8, "epoch " + epochs[0]), svgText(w - 8, h - 8, "epoch " + final, "end"));
  const key = (name, words) => [painted(plain("span", "", "swatch"), { background: `var(--${name})` }), ` ${words} `];
  figure.append(picture, make("figcaption", {}, ...key("right", "top-1 on the clips that choose the epoch" + (kept === null ? "" : " (dot: epoch kept)")), ...key("bone", "on the clips trained on"), ...(asking.length ? key("mark", "refreshes") : [])));
}

// ---- confusion matrix

const matrix = byId("matrix"), pen = matrix.getContext("2d");
const view = { order: [], cell: 10, left: 0, top: 0, row: 0, column: 0 };

function ordered() {
  const order = { given: () => classes.map((_, k) => k), together: () => [...report.together], worst: () => classes.map((_, k) => k).sort((a, b) => (rows[a].accuracy ?? 101) - (rows[b].accuracy ?? 101)) }[byId("order").value]();
  const most = Number(byId("show").value);
  if (!most) return order;
  const kept = new Set();
  for (const [m, n] of pairs) {
    if (kept.size + (kept.has(m) ? 0 : 1) + (kept.has(n) ? 0 : 1) > most) continue;
    kept.add(m).add(n);
  }
  return order.filter(k => kept.has(k));
}

function shortened(name, length) {
  return name.length <= length ? name : name.slice(0, Math.ceil(length * .6)) + "…" + name.slice(-Math.floor(length * .3));
}

function layMatrix() {
  const kept = view.order.length ? [view.order[view.row], view.order[view.column]] : [];
  view.order = ordered();
  view.row = Math.max(0, view.order.indexOf(kept[0]));
  view.column = Math.max(0, view.order.indexOf(kept[1]));
  const frame = byId("matrix-frame").clientWidth - 8, number = view.order.length, zoom = Number(byId("zoom").value);
  pen.font = "12px system-ui, sans-serif";
  const widest = Math.min(Math.max(...view.order.map(k => pen.measureText(shortened(classes[k], 24)).width), 30) + 8, frame * .36, 190);
  view.left = view.top = widest;
  view.cell = Math.min((frame - widest) / number * zoom, 44);
  view.named = view.cell >= 10.5;
  if (!view.named) {
    view.left = view.top = 2;
    view.cell = Math.min((frame - 4) / number * zoom, 14);
  }
  const side = view.cell * number + 2;
  const width = view.left + side, height = view.top + side, scale = Math.min(devicePixelRatio || 1, 2, Math.max(1, 4096 / width));
  matrix.style.width = width + "px";
  matrix.style.height = height + "px";
  matrix.width = width * scale;
  matrix.height = height * scale;
  view.scale = scale;
  drawMatrix();
}

function mixture(from, to, part) {
  const parse = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  const [a, b] = [parse(from), parse(to)];
  return "rgb(" + a.map((value, at) => Math.round(value + (b[at] - value) * part)).join(" ") + ")";
}

function drawMatrix() {
  const { order, cell, left, top } = view, { ink, muted, panel, right, wrong, paper } = colours;
  const place = new Map(order.map((k, at) => [k, at]));
  pen.setTransform(view.scale, 0, 0, view.scale, 0, 0);
  pen.clearRect(0, 0, matrix.width, matrix.height);
  pen.fillStyle = panel;
  pen.fillRect(left, top, cell * order.length, cell * order.length);
  if (cell >= 6) {
    pen.strokeStyle = paper;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = 0; i <= order.length; i++) {
      pen.moveTo(left + i * cell, top);
      pen.lineTo(left + i * cell, top + order.length * cell);
      pen.moveTo(left, top + i * cell);
      pen.lineTo(left + order.length * cell, top + i * cell);
    }
    pen.stroke();
  }
  const gap = cell >= 6 ? 1 : 0;
  pen.textBaseline = "middle";
  for (const [m, n] of report.counts) {
    const row = place.get(m), column = place.get(n);
    if (row === undefined || column === undefined) continue;
    const part = share(m, n), strength = m === n ? .16 + .84 * Math.sqrt(part) : .35 + .65 * Math.sqrt(part);
    pen.fillStyle = mixture(panel, m === n ? right : wrong, strength);
    const extent = Math.max(cell - gap, m === n ? 1.5 : 3), shift = (cell - extent) / 2;
    pen.fillRect(left + column * cell + shift, top + row * cell + shift, extent, extent);
    if (cell >= 20) {
      pen.fillStyle = strength > .62 ? paper : ink;
      pen.font = (cell >= 28 ? 12 : 10) + "px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText(part < .005 ? "<1" : Math.round(100 * part), left + (column + .5) * cell, top + (row + .5) * cell + .5);
    }
  }
  if (view.named) {
    order.forEach((k, at) => {
      for (const across of [true, false]) {
        const here = across ? at === view.row : at === view.column;
        pen.font = (here ? "600 " : "") + Math.min(12, cell) + "px system-ui, sans-serif";
        pen.fillStyle = here ? ink : muted;
        pen.save();
        if (across) {
          pen.textAlign = "right";
          pen.translate(left - 6, top + (at + .5) * cell);
        } else {
          pen.textAlign = "left";
          pen.translate(left + (at + .5) * cell, top - 6);
          pen.rotate(-Math.PI / 2);
        }
        pen.fillText(shortened(classes[k], 24), 0, 0, left - 8);
        pen.restore();
      }
    });
  }
  if (!order.length) return;
  pen.strokeStyle = ink;
  pen.globalAlpha = .35;
  pen.lineWidth = 1;
  const thin = cell < 6 ? 0 : cell;  // of small cells only the middle is lined
  pen.strokeRect(left, top + (view.row + .5) * cell - thin / 2, order.length * cell, thin);
  pen.strokeRect(left + (view.column + .5) * cell - thin / 2, top, thin, order.length * cell);
  pen.globalAlpha = 1;
  pen.lineWidth = 2;
  const ring = Math.max(cell, 7);
  pen.strokeRect(left + (view.column + .5) * cell - ring / 2, top + (view.row + .5) * cell - ring / 2, ring, ring);
}

function readCell() {
  const m = view.order[view.row], n = view.order[view.column];
  if (m === undefined) return;
  const where = byId("readout"), found = confused(m, n);
  const rate = total[m] ? " (" + percent(100 * share(m, n)) + ")" : "";
  where.replaceChildren(plain("strong", classes[m]), ...(m === n ? [", recognised as such: "] : [", taken for ", plain("strong", classes[n]), ": "]), found + " of " + count(total[m], "clip") + rate);
}

function moveTo(row, column) {
  view.row = Math.max(0, Math.min(view.order.length - 1, row));
  view.column = Math.max(0, Math.min(view.order.length - 1, column));
  drawMatrix();
  readCell();
}

function nextConfusion(by) {
  const place = new Map(view.order.map((k, at) => [k, at]));
  const shown = pairs.filter(([m, n]) => place.has(m) && place.has(n));
  if (!shown.length) return;
  const here = shown.findIndex(([m, n]) => m === view.order[view.row] && n === view.order[view.column]);
  const next = shown[here < 0 ? (by > 0 ? 0 : shown.length - 1) : (here + by + shown.length) % shown.length];
  moveTo(place.get(next[0]), place.get(next[1]));
}

function openCell() {
  const m = view.order[view.row], n = view.order[view.column];
  if (m === undefined) return;
  const target = m === n ? "#class-" + m : "#pair-" + m + "-" + n;
  if (location.hash === target) follow();
  else location.hash = target;
}

function cellAt(event) {
  const box = matrix.getBoundingClientRect();
  const column = (event.clientX - box.left - view.left) / view.cell, row = (event.clientY - box.top - view.top) / view.cell;
  if (row < 0 || column < 0 || row >= view.order.length || column >= view.order.length) return null;
  let best = [Math.floor(row), Math.floor(column)];
  if (view.cell < 8) {  // cells too small to hit: the nearest confusion within some pixels
    let nearest = 7 / view.cell;
    const reach = Math.ceil(nearest);
    for (let r = Math.max(0, best[0] - reach); r <= Math.min(view.order.length - 1, Math.floor(row) + reach); r++) {
      for (let c = Math.max(0, Math.floor(column) - reach); c <= Math.min(view.order.length - 1, Math.floor(column) + reach); c++) {
        const far = Math.hypot(r + .5 - row, c + .5 - column);
        if (r !== c && far < nearest && confused(view.order[r], view.order[c])) {
          nearest = far;
          best = [r, c];
        }
      }
    }
  }
  return best;
}

function setUpMatrix() {
  const choices = size <= 12 ? [] : [20, 40, 80].filter(most => most < size);
  byId("show").append(make("option", { value: 0, textContent: count(size, "class", "all " + size + " classes").replace(/^\S+ all/, "all") }), ...choices.map(most => make("option", { value: most, textContent: "the " + most + " most confused" })));
  byId("show").parentElement.hidden = !choices.length;
  byId("zoom-label").hidden = size <= 20;
  if (size > 20) byId("order").value = "together";
  for (const id of ["order", "show", "zoom"]) byId(id).addEventListener("change", () => { layMatrix(); readCell(); });
  matrix.addEventListener("pointermove", event => {
    const cell = cellAt(event);
    if (cell && (cell[0] !== view.row || cell[1] !== view.column)) moveTo(...cell);
  });
  matrix.addEventListener("click", event => {
    const cell = cellAt(event);
    if (!cell) return;
    moveTo(...cell);
    openCell();
  });
  const keys = {
    ArrowLeft: () => moveTo(view.row, view.column - 1), ArrowRight: () => moveTo(view.row, view.column + 1),
    ArrowUp: () => moveTo(view.row - 1, view.column), ArrowDown: () => moveTo(view.row + 1, view.column),
    Home: () => moveTo(view.row, 0), End: () => moveTo(view.row, size), PageDown: () => nextConfusion(1), PageUp: () => nextConfusion(-1),
    Enter: openCell, " ": openCell,
  };
  matrix.addEventListener("keydown", event => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  new ResizeObserver(() => layMatrix()).observe(byId("matrix-frame"));
  layMatrix();
  if (pairs.length) nextConfusion(1);
  else readCell();
}

// ---- one confusion

function stageOf(number, critical) {
  const clip = clips[number], right = clip.predicted === clip.label, sure = clip.sure === undefined ? "" : ", " + percent(clip.sure) + " sure";
  if (clip.predicted === undefined) return { clip: number, critical, title: classes[clip.label], note: "outside this split" };
  return {
    clip: number, critical, kind: right ? "right" : "wrong", title: classes[clip.label],
    note: (right ? "recognised" : "taken for " + classes[clip.predicted]) + sure,
  };
}

// wrong clips, one at a time, beside a clip of the class it was taken for
function beside(wrong) {
  const taken = clips[wrong[0]].predicted;
  let at = 0;
  const shown = () => {
    const number = wrong[at], other = report.typical[clips[number].predicted];
    return [stageOf(number, criticalOf(clips[number].label)), ...(other.length ? [stageOf(other[0], criticalOf(clips[number].predicted))] : [])];
  };
  const group = player(shown());
  if (wrong.length < 2) return group.node;
  const where = make("span", { role: "status" });
  const tell = () => { where.textContent = `clip ${at + 1} of ${wrong.length}`; };
  const go = by => () => {
    at = (at + by + wrong.length) % wrong.length;
    group.show(shown());
    tell();
  };
  tell();
  const what = wrong.every(number => clips[number].predicted === taken) ? "clip" : "confusion";
  return make("div", {}, group.node, make("div", { className: "controls" }, make("button", { type: "button", onclick: go(-1), textContent: "Previous " + what }), make("button", { type: "button", onclick: go(1), textContent: "Next " + what }), where));
}

function jointChips(list, others = []) {
  return make("ul", { className: "chips" }, ...list.map(joint => plain("li", joints[joint], others.includes(joint) ? "shared" : "")));
}

function apart(k, other) {
  const side = make("div", {}, make("h4", {}, classLink(k)));
  const { sentence } = report.critical[k];
  side.append(plain("blockquote", text(sentence)), jointChips(criticalOf(k), criticalOf(other)));
  return side;
}

function renderPair(m, n) {
  const found = confused(m, n), back = confused(n, m), panel = byId("pair");
  const heading = make("h3", { tabIndex: -1, id: "pair-title" }, classes[m], arrow(), classes[n]);
  const wrong = report.wrong[m].filter(number => clips[number].predicted === n);
  const parts = [heading, make("p", {}, `${found} of ${count(total[m], "clip")} of `, plain("strong", classes[m]), " taken for ", plain("strong", classes[n]), total[m] ? ` (${percent(100 * share(m, n))}). ` : ". ", pairLink(n, m, "The other way"), `: ${back} of ${total[n]}.`)];
  if (wrong.length) parts.push(beside(wrong));
  else {
    const rest = [m, n].flatMap(k => report.typical[k].slice(0, 1)).map(number => stageOf(number, criticalOf(clips[number].label)));
    if (rest.length) parts.push(player(rest).node);
    parts.push(plain("p", found ? "The page holds no clip of this confusion." : "No clip of the one was taken for the other.", "note"));
  }
  const trained = report.analysis.trained.find(([one, other]) => one === m && other === n);
  if (report.critical) {
    parts.push(plain("h3", "What tells them apart"), make("div", { className: "sides" }, apart(m, n), apart(n, m)));
    const first = plain("span", "", "swatch mark");
    parts.push(make("p", { className: "note" }, first, " critical joints; outlined are those of both classes. The kept network was trained with these sentences."));
  }
  if (trained) {
    parts.push(plain("h3", "In training"), plain("p", "Share of its training clips that were taken for the other class when a refresh asked about the pair, and once its answers had been trained with:", "note"));
    parts.push(make("ul", { className: "chips" }, ...trained[2].map(became)));
  }
  panel.replaceChildren(...parts);
  const row = view.order.indexOf(m), column = view.order.indexOf(n);
  if (row >= 0 && column >= 0) moveTo(row, column);
}

function became({ epoch, before, before_clips, after, after_clips }) {
  const share = (number, all) => Math.round(100 * number / Math.max(all, 1));
  return make("li", {}, make("a", { href: "#refresh-" + epoch, textContent: "epoch " + epoch }), `: ${share(before, before_clips)} → ${after === null ? "not counted again" : share(after, after_clips) + " %"}`);
}

function renderPairs() {
  const most = 30, body = make("tbody");
  if (!pairs.length) {
    byId("pairs").append(plain("p", "No clip was confused.", "note"));
    return;
  }
  for (const [m, n, clipsOfPair] of pairs.slice(0, most)) {
    body.append(make("tr", {}, make("th", { scope: "row" }, pairLink(m, n, classes[m], " → ", classes[n])), plain("td", clipsOfPair, "number"), plain("td", percent(100 * share(m, n)), "number"), plain("td", String(confused(n, m)), "number optional")));
  }
  const head = make("tr", {}, make("th", { scope: "col", textContent: "true class → taken for" }), make("th", { scope: "col", className: "number", textContent: "clips" }), make("th", { scope: "col", className: "number", textContent: "of the class" }), make("th", { scope: "col", className: "number optional", textContent: "the other way" }));
  byId("pairs").append(make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Most confused pairs" }, make("table", {}, make("thead", {}, head), body)));
  byId("pairs").firstChild.style.maxHeight = "24rem";
  if (pairs.length > most) byId("pairs").append(plain("p", `The ${most} most frequent of ${pairs.length}; the matrix has all.`, "note"));
}

// ---- classes

const hasReference = rows.some(row => row.reference !== undefined);
const columns = [
  { name: "class", value: k => classes[k].toLowerCase(), cell: k => make("th", { scope: "row" }, classLink(k)) },
  { name: "clips", value: k => total[k], cell: k => plain("td", String(total[k]), "number optional"), number: true, optional: true },
  { name: "right", value: k => rows[k].accuracy ?? 101, cell: k => plain("td", percent(rows[k].accuracy), "number"), number: true },
  { name: "interval", value: k => rows[k].low ?? 101, cell: intervalCell, optional: true },
  ...(hasReference ? [{ name: "difference", value: k => rows[k].difference ?? 0, cell: k => plain("td", rows[k].difference === null ? "" : signed(rows[k].difference) + (rows[k].clear ? " *" : ""), "number"), number: true }] : []),
  { name: "taken for", value: k => takenFor(k)[0]?.[2] ?? 0, cell: takenCell },
];
let sorting = { at: 2, falling: false };

function intervalCell(k) {
  const cell = make("td", { className: "bar-cell optional" }), row = rows[k];
  if (row.accuracy === null) return cell;
  const picture = make("svg:svg", { viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img", "aria-label": `${row.low.toFixed(0)} to ${row.high.toFixed(0)} %` });
  picture.append(
    painted(make("svg:rect", { x: 0, y: 5, width: 100, height: 4, rx: 2 }), { fill: "var(--line)" }),
    painted(make("svg:rect", { x: row.low, y: 3.5, width: Math.max(row.high - row.low, .5), height: 7 }), { fill: setColour[difficulty(k)], opacity: .4 }),
    painted(make("svg:rect", { x: Math.min(row.accuracy, 98.5), y: 0, width: 1.5, height: 14 }), { fill: setColour[difficulty(k)] }),
  );
  cell.append(picture);
  return cell;
}

function takenCell(k) {
  const cell = make("td"), most = takenFor(k)[0];
  if (most) cell.append(pairLink(most[0], most[1], shortened(classes[most[1]], 30)), ` (${most[2]})`);
  return cell;
}

function renderTable() {
  const head = make("tr");
  columns.forEach((column, at) => {
    const direction = sorting.at === at ? (sorting.falling ? "descending" : "ascending") : null;
    const button = make("button", { type: "button", textContent: column.name, onclick: () => {
      sorting = { at, falling: sorting.at === at ? !sorting.falling : false };
      renderTable();
      byId("class-table").querySelectorAll("th button")[at].focus();
    } });
    head.append(make("th", { scope: "col", className: (column.number ? "number" : "") + (column.optional ? " optional" : ""), "aria-sort": direction }, button));
  });
  const wanted = byId("filter").value.trim().toLowerCase(), { value } = columns[sorting.at];
  const order = classes.map((_, k) => k).filter(k => classes[k].toLowerCase().includes(wanted));
  order.sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    return (one < two ? -1 : one > two ? 1 : 0) * (sorting.falling ? -1 : 1) || a - b;
  });
  const body = make("tbody");
  for (const k of order) body.append(make("tr", { "data-class": k, className: k === shownClass ? "chosen" : "" }, ...columns.map(column => column.cell(k))));
  byId("class-table").replaceChildren(make("thead", {}, head), body);
  byId("filter-count").textContent = wanted ? `${order.length} of ${size}` : "";
}

let shownClass = null;
function renderClass(k) {
  shownClass = k;
  for (const row of document.querySelectorAll("#class-table tbody tr")) row.classList.toggle("chosen", Number(row.dataset.class) === k);
  const row = rows[k], panel = byId("class"), set = difficulty(k);
  const parts = [make("h3", { tabIndex: -1, id: "class-title", textContent: classes[k] })];
  parts.push(plain("p", row.accuracy === null ? "The split has no clip of this class." : `${confused(k, k)} of ${count(total[k], "clip")} right: ${percent(row.accuracy, 1)}, 95 % interval ${row.low.toFixed(0)} to ${row.high.toFixed(0)}, ${set === "easy" ? "an" : "a"} ${set} class.` + (row.difference === undefined || row.difference === null ? "" : ` The reference has ${percent(row.reference, 1)}: ${signed(row.difference)} points, 95 % interval ${row.difference_low.toFixed(0)} to ${row.difference_high.toFixed(0)}, ${row.clear ? "a clear difference" : "within noise"}.`)));
  const critical = criticalOf(k);
  const seen = [...report.typical[k], ...report.wrong[k]].slice(0, 1);
  let group = null;
  if (seen.length) {
    group = player([stageOf(seen[0], critical)], { height: 320 });
    parts.push(group.node);
  } else parts.push(plain("p", "No clip of this class could be shown.", "note"));
  if (report.critical) {
    if (text(report.critical[k].sentence)) parts.push(plain("blockquote", text(report.critical[k].sentence)));
    parts.push(plain("h4", critical.length ? "Critical joints" : "No critical joints are known"));
    const list = make("ul", { className: "joints" });
    for (const [joint, move] of report.critical[k].joints) {
      const button = make("button", { type: "button", ariaPressed: "false", textContent: joints[joint], onclick: () => {
        const on = group && group.chosen !== joint;
        for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(on && other === button));
        group?.choose(on ? joint : null);
      } });
      list.append(make("li", {}, button, plain("span", move === null ? "named in round 6" : text(move))));
    }
    parts.push(list);
  }
  const linked = (found, what, to) => found.length ? make("p", {}, what + " ", ...found.slice(0, 8).flatMap(([m, n, number], at) => [at ? ", " : "", pairLink(m, n, classes[to === "n" ? n : m]), ` (${number})`]), found.length > 8 ? ` and ${found.length - 8} more` : "", ".") : null;
  parts.push(linked(takenFor(k), "Taken for", "n"), linked(takenForThis(k), "Taken for it:", "m"));
  if (report.wrong[k].length) parts.push(plain("h3", "Clips it gets wrong"), beside(report.wrong[k]));
  parts.push(...dialogueOf(k));
  panel.replaceChildren(...parts.filter(Boolean));
}

function spoken(said) {
  const parts = [make("details", { className: "question" }, plain("summary", "Question"), plain("p", text(said.question), "said asked")), plain("p", text(said.answer), "said")];
  if (said.came !== null) parts.push(make("details", { className: "question" }, plain("summary", "The answer as it came"), plain("p", text(said.came), "said asked")));
  for (const note of said.notes) parts.push(plain("p", note, "note"));
  return parts;
}

function dialogueOf(k) {
  const rounds = report.dialogues[k];
  if (!rounds.length) return [plain("h3", "Dialogue"), plain("p", "This run has no dialogue about the class.", "note")];
  const told = [...new Set(rounds.map(({ by }) => by))].join(", ");
  const list = make("ol", { className: "rounds" }, ...rounds.map(said => make("li", {}, plain("h4", "Round " + said.round), ...spoken(said))));
  const asked = report.refreshes.filter(({ classes: entries }) => entries.some(entry => entry.class === k && entry.said));
  const where = asked.length ? make("p", { className: "note" }, "Asked again at the refreshes after epoch ", ...asked.flatMap(({ epoch }, at) => [at ? ", " : "", make("a", { href: "#refresh-" + epoch, textContent: String(epoch) })]), ".") : null;
  return [plain("h3", "Dialogue"), plain("p", "Answered by " + told + ".", "note"), where, list];
}

// ---- refreshes

function renderRefreshes() {
  const list = byId("refresh-list");
  if (!report.refreshes.length) {
    list.append(plain("p", "This run had no refresh: it was trained without agents, or ended before the first one.", "note"));
    return;
  }
  for (const [at, refresh] of report.refreshes.entries()) {
    const { asked_before, asked_after, other_before, other_after } = report.analysis.refreshes[at];
    const course = (before, after) => before.toFixed(1) + " → " + after.toFixed(1);
    const changed = refresh.classes.filter(({ change }) => change).length;
    const told = refresh.classes.filter(({ said }) => said).length;
    const what = told ? `${count(told, "class", "classes")} asked about, ${changed} changed` : refresh.classes.length ? "nothing new to ask" : "nobody was confused with anybody";
    const body = make("div", { className: "refresh" });
    const details = make("details", { id: "refresh-" + refresh.epoch, ontoggle: () => { if (details.open && !body.firstChild) fillRefresh(refresh, body); } }, make("summary", {}, `After epoch ${refresh.epoch} `, plain("span", "· " + what + (asked_after === null || !changed ? "" : ` · ${course(asked_before, asked_after)} % of training clips in pairs asked about, ${course(other_before, other_after)} % in others`))), body);
    list.append(details);
  }
}

function fillRefresh(refresh, body) {
  const facts = [`${count(refresh.asked, "question")} answered, ${refresh.recalled} answered before.`];
  if (refresh.effective !== null && refresh.effective !== undefined) facts.push(`Trained with from epoch ${refresh.effective} on.`);
  body.append(plain("p", facts.join(" "), "note"));
  if (refresh.over_budget.length) body.append(make("p", { className: "note" }, "Not asked, since the budget was spent: ", ...refresh.over_budget.flatMap((k, at) => [at ? ", " : "", classLink(k)]), "."));
  for (const [k, reason] of refresh.failed) body.append(make("p", {}, "No answer about ", k === null ? "a class" : classLink(k), ": " + reason));
  for (const entry of refresh.classes) body.append(changeOf(entry));
}

function changeOf({ class: k, similar, said, change }) {
  const part = make("div", { className: "change" }, make("h3", {}, classLink(k)));
  if (similar.length) {
    part.append(make("div", { className: "with" }, "taken for ", make("ul", { className: "chips" }, ...similar.map(([other, now, next]) => make("li", {}, classes[other] + " ", plain("strong", String(now)), next === null ? "" : ` → ${next}`)))));
  }
  if (said) part.append(make("details", { className: "question" }, plain("summary", "Question"), plain("p", text(said.question), "said asked")), ...(said.came === null ? [] : [plain("p", "mended: " + text(said.came), "note")]));
  if (!change) {
    if (said) part.append(plain("p", text(said.answer), "said"));
    part.append(plain("p", said ? "Joints and sentence stayed as they were." : "Not asked about: joints and sentence stayed as they were.", "note"));
    return part;
  }
  const [before, after] = change.sentence, [old, now] = change.joints;
  const sentences = make("dl", { className: "sentences" });
  if (before !== after) sentences.append(plain("dt", "before"), plain("dd", text(before), "quiet"));
  sentences.append(plain("dt", before === after ? "sentence" : "after"), plain("dd", text(after)));
  part.append(sentences);
  part.append(make("ul", { className: "chips" }, ...now.map(joint => plain("li", (old.includes(joint) ? "" : "+ ") + joints[joint], old.includes(joint) ? "" : "added")), ...old.filter(joint => !now.includes(joint)).map(joint => plain("li", joints[joint], "removed"))));
  return part;
}

// ---- calibration

function renderCalibration() {
  const bins = report.analysis.calibration, w = 380, h = 330, left = 40, bottom = 40, top = 8;
  const x = value => left + (w - left - 10) * value / 100, y = value => top + (h - top - bottom) * (1 - value / 100);
  const picture = make("svg:svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": "Accuracy by confidence; the table has the numbers" });
  for (const value of [0, 25, 50, 75, 100]) {
    picture.append(painted(line([[left, y(value)], [w - 10, y(value)]], {}), { stroke: "var(--line)" }), svgText(left - 6, y(value) + 4, value, "end"), svgText(x(value), h - bottom + 16, value, "middle"));
  }
  picture.append(painted(line([[x(0), y(0)], [x(100), y(100)]], { "stroke-dasharray": "4 4" }), { stroke: "var(--muted)" }));
  const most = Math.max(...bins.map(({ n }) => n), 1), known = bins.filter(({ n }) => n);
  for (const bin of known) {
    picture.append(painted(line([[x(bin.confidence), y(bin.accuracy_low)], [x(bin.confidence), y(bin.accuracy_high)]], {}), { stroke: "var(--bone)", strokeWidth: 1.5 }));
    picture.append(painted(make("svg:circle", { cx: x(bin.confidence), cy: y(bin.accuracy), r: 3 + 7 * Math.sqrt(bin.n / most) }), { fill: "var(--right)", stroke: "var(--panel)", strokeWidth: 1.5 }));
  }
  picture.append(svgText((left + w - 10) / 2, h - 4, "confidence, %", "middle"));
  const caption = make("figcaption", {}, `Accuracy (up, %) of the clips by how sure the network is of them; the larger a dot the more clips, with its 95 % interval. On the broken line it is as often right as it says. Expected calibration error ${percent(report.analysis.ece, 1)}; a perfectly calibrated network would have up to ${percent(report.analysis.ece_by_chance, 1)} on as many clips.`);
  byId("reliability").append(picture, caption);
  const body = make("tbody", {}, ...known.map(bin => make("tr", {}, make("th", { scope: "row", textContent: `${bin.low.toFixed(0)} to ${bin.high.toFixed(0)} %` }), plain("td", String(bin.n), "number"), plain("td", percent(bin.confidence, 1), "number optional"), plain("td", percent(bin.accuracy, 1), "number"), plain("td", `${bin.accuracy_low.toFixed(0)} to ${bin.accuracy_high.toFixed(0)}`, "number"))));
  const head = make("tr", {}, ...["confidence", "clips", "mean", "right", "95 % interval"].map((name, at) => make("th", { scope: "col", className: at ? "number" + (name === "mean" ? " optional" : "") : "", textContent: name })));
  byId("reliability-table").append(make("table", {}, make("thead", {}, head), body));
}

// ---- addresses: #class-3, #pair-3-5, #refresh-10

function follow() {
  const [kind, ...numbers] = location.hash.slice(1).split("-");
  const valid = numbers.every(number => /^\d+$/.test(number) && Number(number) < size);
  if (kind === "class" && numbers.length === 1 && valid) {
    renderClass(Number(numbers[0]));
    arrive("class-title");
  } else if (kind === "pair" && numbers.length === 2 && valid) {
    renderPair(Number(numbers[0]), Number(numbers[1]));
    arrive("pair-title");
  } else if (kind === "refresh" && byId(location.hash.slice(1))) {
    const details = byId(location.hash.slice(1));
    details.open = true;
    details.querySelector("summary").focus({ preventScroll: true });
    details.scrollIntoView();
  }
}

function arrive(id) {
  const heading = byId(id), box = heading.getBoundingClientRect();
  heading.focus({ preventScroll: true });
  if (box.top < 70 || box.bottom > innerHeight * .8) heading.scrollIntoView();
}

renderOverview();
setUpMatrix();
renderPairs();
if (pairs.length) renderPair(pairs[0][0], pairs[0][1]);
else byId("pair").append(plain("p", "No clip was confused with another class."));
const worst = classes.map((_, k) => k).sort((a, b) => (rows[a].accuracy ?? 101) - (rows[b].accuracy ?? 101))[0];
shownClass = worst;
byId("filter-tools").hidden = size <= 12;
byId("filter").addEventListener("input", renderTable);
renderTable();
renderClass(worst);
renderRefreshes();
renderCalibration();
byId("footer").append(`Made by skag ${report.version}. ${report.analysis.missing.map(what => "Not shown: " + what + ". ").join("")}Intervals of accuracies are Wilson's, at 95 %. The page is complete in itself: it loads nothing and sends nothing.`);
showMotion();
addEventListener("hashchange", follow);
follow();
function redraw() {
  readColours();
  drawMatrix();
  for (const group of groups) group.draw();
}
dark.addEventListener("change", redraw);
printing.addEventListener("change", redraw);
calm.addEventListener("change", () => { if (calm.matches === moving) byId("motion").click(); });
requestAnimationFrame(tick);
