// one confusion, and the most frequent ones

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

// what a method says beyond dialogues: headings and texts
function told(said) {
  return (said ?? []).flatMap(([heading, words]) => [plain("h4", heading), plain("p", text(words), "said")]);
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
  if (report.alike) parts.push(plain("p", `How alike their texts are to the text encoder: a cosine of ${report.alike[m][n].toFixed(2)}, the most alike of all pairs have ${report.most_alike.toFixed(2)}.`, "note"));
  if (trained) {
    parts.push(plain("h3", "In training"), plain("p", "Share of its training clips that were taken for the other class when a refresh asked about the pair, and once its answers had been trained with:", "note"));
    parts.push(make("ul", { className: "chips" }, ...trained[2].map(became)));
  }
  parts.push(...told(report.of_pair?.[m + "-" + n]));
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
