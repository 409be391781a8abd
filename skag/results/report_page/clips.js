// clips that move

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
