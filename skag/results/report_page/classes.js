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
  if (report.told) {
    const { texts: own, nearest } = report.told[k];
    parts.push(plain("h4", "Texts that the encoder learned from"));
    if (nearest !== null) parts.push(plain("p", `${percent(nearest)} of its clips lie nearest to one of them.`, "note"));
    parts.push(...own.map(one => plain("blockquote", `${one.kind}: ${text(one.text)}` + (one.clips ? ` (nearest to ${count(one.clips, "clip")})` : ""))));
  }
  const linked = (found, what, to) => found.length ? make("p", {}, what + " ", ...found.slice(0, 8).flatMap(([m, n, number], at) => [at ? ", " : "", pairLink(m, n, classes[to === "n" ? n : m]), ` (${number})`]), found.length > 8 ? ` and ${found.length - 8} more` : "", ".") : null;
  parts.push(linked(takenFor(k), "Taken for", "n"), linked(takenForThis(k), "Taken for it:", "m"));
  if (report.wrong[k].length) parts.push(plain("h3", "Clips it gets wrong"), beside(report.wrong[k]));
  parts.push(...told(report.of_class?.[k]), ...dialogueOf(k));
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
  if (!rounds.length && report.of_class) return [];
  if (!rounds.length) return [plain("h3", "Dialogue"), plain("p", "This run has no dialogue about the class.", "note")];
  const told = [...new Set(rounds.map(({ by }) => by))].join(", ");
  const list = make("ol", { className: "rounds" }, ...rounds.map(said => make("li", {}, plain("h4", "Round " + said.round), ...spoken(said))));
  const asked = report.refreshes.filter(({ classes: entries }) => entries.some(entry => entry.class === k && entry.said));
  const where = asked.length ? make("p", { className: "note" }, "Asked again at the refreshes after epoch ", ...asked.flatMap(({ epoch }, at) => [at ? ", " : "", make("a", { href: "#refresh-" + epoch, textContent: String(epoch) })]), ".") : null;
  return [plain("h3", "Dialogue"), plain("p", "Answered by " + told + ".", "note"), where, list];
}
