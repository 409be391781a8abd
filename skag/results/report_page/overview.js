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

// calibration

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
