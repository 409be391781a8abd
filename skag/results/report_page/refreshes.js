// skeletons that the network has made: of a method that has no refreshes, in their place
function renderMade() {
  const first = clips.findIndex(({ label }) => label === undefined), { title: heading, help } = report.made;
  byId("refreshes-title").textContent = heading;
  document.querySelector("nav a[href='#refreshes']").textContent = heading;
  byId("refreshes").querySelector(".help").textContent = help;
  for (let at = first; at >= 0 && at < clips.length; at += 4) {
    const stages = clips.slice(at, at + 4).map(({ title, note }, place) => ({ clip: at + place, critical: [], title, note }));
    byId("refresh-list").append(player(stages, { height: 180 }).node);
  }
}

function renderRefreshes() {
  const list = byId("refresh-list");
  if (report.made) return renderMade();
  if (!report.analysis.refreshes) { // a method that asks nobody while it trains
    byId("refreshes").remove();
    document.querySelector("nav a[href='#refreshes']").remove();
    return;
  }
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
