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
