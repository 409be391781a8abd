// addresses: #class-3, #pair-3-5, #refresh-10

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
