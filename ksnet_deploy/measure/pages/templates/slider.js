"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (name, text, parent) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const stage = at("stage"), divider = at("divider"), clip = at("clip");
const pictures = [at("picture-left"), at("picture-right")];
const MOST_ZOOM = 16; // screen pixels for one of the picture
const inside = window.parent !== window; // in a frame of another page, which is as high as this one says
let view = 0, sides = data.start, boundary = 0.5;
let scale = 1, x = 0, y = 0, fitted = true; // CSS pixels for one of the picture; its top left corner in the stage

at("title").textContent = data.title;
at("subtitle").textContent = data.subtitle;

// The picture in the stage -------------------------------------------------------------------------------------------

const size = () => data.views[view];
const pixel = () => 1 / (window.devicePixelRatio || 1);

function fitScale() {
  return Math.min(stage.clientWidth / size().width, stage.clientHeight / size().height);
}

function shape() { // as high as the picture at full width, but no higher than most of the window
  const ratio = size().height / size().width;
  const seen = inside ? Math.min(window.screen.availHeight, 1000) : window.innerHeight;
  stage.style.height = `${Math.round(Math.max(Math.min(stage.clientWidth * ratio, seen * 0.72), 160))}px`;
  if (fitted) fit(); else place();
}

function within(low, wanted, length, shown) { // no gap at an edge; in the middle where it is smaller than the stage
  return shown <= length ? (length - shown) / 2 : Math.min(Math.max(wanted, length - shown), low);
}

function place() {
  x = within(0, x, stage.clientWidth, size().width * scale);
  y = within(0, y, stage.clientHeight, size().height * scale);
  for (const picture of pictures) {
    picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    picture.classList.toggle("crisp", scale / pixel() >= 2);
  }
  at("zoom").textContent = `${Math.round(100 * scale / pixel())} %`;
}

function fit() {
  fitted = true;
  scale = fitScale();
  place();
}

function zoomTo(wanted, cx = stage.clientWidth / 2, cy = stage.clientHeight / 2) {
  const next = Math.min(Math.max(wanted, Math.min(fitScale(), pixel())), MOST_ZOOM * pixel());
  x = cx - (cx - x) * next / scale;
  y = cy - (cy - y) * next / scale;
  fitted = false;
  scale = next;
  place();
}

function look(area) { // at the part of the picture where the versions differ most
  zoomTo(Math.min(stage.clientWidth / area.width, stage.clientHeight / area.height));
  x = stage.clientWidth / 2 - (area.left + area.width / 2) * scale;
  y = stage.clientHeight / 2 - (area.top + area.height / 2) * scale;
  place();
}

function split(share) {
  boundary = Math.min(Math.max(share, 0), 1);
  divider.style.left = `${100 * boundary}%`;
  clip.style.clipPath = `inset(0 ${100 * (1 - boundary)}% 0 0)`;
  divider.setAttribute("aria-valuenow", String(Math.round(100 * boundary)));
  divider.setAttribute("aria-valuetext", `${Math.round(100 * boundary)} % ${data.versions[sides[0]]}`);
}

function show() {
  sides.forEach((version, side) => {
    pictures[side].src = size().pictures[version];
    pictures[side].alt = `${data.versions[version]}, ${size().label}`;
    at(side ? "tag-right" : "tag-left").textContent = data.versions[version];
    at(side ? "right" : "left").value = String(version);
  });
  at("caption").textContent = size().caption;
  at("focus").hidden = !size().focus;
  for (const [index, button] of [...at("views").children].entries()) {
    button.setAttribute("aria-pressed", String(index === view));
  }
  markCurves();
  split(boundary);
}

function go(to) {
  const before = size();
  view = Math.min(Math.max(to, 0), data.views.length - 1);
  show();
  if (before.width !== size().width || before.height !== size().height) { fitted = true; shape(); }
}

function swap() {
  sides = [sides[1], sides[0]];
  show();
}

for (const side of ["left", "right"]) {
  data.versions.forEach((name, index) => { make("option", name, at(side)).value = String(index); });
  at(side).addEventListener("change", () => {
    sides[side === "left" ? 0 : 1] = Number(at(side).value);
    show();
  });
}
at("swap").addEventListener("click", swap);
at("zoom-in").addEventListener("click", () => zoomTo(scale * 1.5));
at("zoom-out").addEventListener("click", () => zoomTo(scale / 1.5));
at("fit").addEventListener("click", fit);
at("one").addEventListener("click", () => zoomTo(pixel()));
at("focus").addEventListener("click", () => look(size().focus));

// Mouse, pen and touch -----------------------------------------------------------------------------------------------

const fingers = new Map();
let pinch = 0, pulls = false;
const inStage = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
};
const apart = () => {
  const [a, b] = [...fingers.values()];
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
};

stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, inStage(event));
  if (fingers.size === 1) {
    const covers = size().width * scale > stage.clientWidth + 1 || size().height * scale > stage.clientHeight + 1;
    pulls = divider.contains(event.target) || !covers; // a picture that is wholly in sight has nowhere to go
    if (pulls) { split(inStage(event)[0] / stage.clientWidth); divider.focus({ preventScroll: true }); }
    event.preventDefault();
  } else if (fingers.size === 2) {
    pulls = false;
    pinch = apart();
  }
  stage.classList.add("moving");
});

stage.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = inStage(event);
  fingers.set(event.pointerId, now);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()], wide = apart();
    zoomTo(scale * wide / Math.max(pinch, 1), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    pinch = wide;
  } else if (pulls) {
    split(now[0] / stage.clientWidth);
  } else {
    x += now[0] - before[0];
    y += now[1] - before[1];
    place();
  }
});

for (const end of ["pointerup", "pointercancel"]) {
  stage.addEventListener(end, (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) stage.classList.remove("moving");
  });
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomTo(scale * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...inStage(event));
}, { passive: false });
stage.addEventListener("dblclick", (event) => {
  if (fitted) zoomTo(Math.max(pixel(), 2.5 * scale), ...inStage(event)); else fit();
});

// Keys ---------------------------------------------------------------------------------------------------------------

divider.addEventListener("keydown", (event) => {
  if (event.shiftKey) return;
  const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 };
  if (event.key in steps) split(boundary + steps[event.key]);
  else if (event.key === "Home") split(0);
  else if (event.key === "End") split(1);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
  if (event.shiftKey && event.key in moves) {
    x += moves[event.key][0];
    y += moves[event.key][1];
    place();
    event.preventDefault();
    return;
  }
  const actions = {
    "+": () => zoomTo(scale * 1.5), "=": () => zoomTo(scale * 1.5), "-": () => zoomTo(scale / 1.5), "0": fit,
    "1": () => zoomTo(pixel()), d: () => { if (size().focus) look(size().focus); }, x: swap,
    n: () => go(view + 1), p: () => go(view - 1),
  };
  const action = actions[event.key.toLowerCase()];
  if (action) { action(); event.preventDefault(); }
});

// Frames to choose from: pictures, or curves to click on --------------------------------------------------------------

if (!data.curve && data.views.length > 1) {
  data.views.forEach((each, index) => {
    const button = make("button", undefined, at("views"));
    button.type = "button";
    const thumb = make("img", undefined, button);
    thumb.alt = "";
    thumb.src = each.pictures[0];
    make("span", each.label, button);
    button.addEventListener("click", () => go(index));
  });
}

const SVG = "http://www.w3.org/2000/svg", WIDE = 1000, HIGH = 100;
const plots = [];
const part = (name, attributes, parent) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  parent.append(node);
  return node;
};

function nearestView(share) {
  const wanted = share * (data.curve.labels.length - 1);
  let best = 0;
  data.views.forEach((each, index) => {
    if (Math.abs(each.point - wanted) < Math.abs(data.views[best].point - wanted)) best = index;
  });
  return best;
}

function drawPlot(plot) {
  const labels = data.curve.labels, last = Math.max(labels.length - 1, 1);
  const known = plot.series.flatMap((one) => one.values).filter((value) => value !== null);
  let low = Math.min(...known, Infinity), high = Math.max(...known, -Infinity);
  if (!known.length) { low = 0; high = 1; }
  const air = Math.max((high - low) * 0.08, plot.least);
  low -= air;
  high += air;
  const across = (index) => WIDE * index / last;
  const up = (value) => (value === null ? 0 : HIGH * (high - value) / (high - low)); // null: beyond all others

  const box = make("div", undefined, at("curves"));
  box.className = "plot";
  const legend = make("div", undefined, box);
  legend.className = "legend";
  make("strong", plot.title, legend);
  const says = plot.series.map((one, index) => {
    const item = make("span", undefined, legend);
    make("i", undefined, item).className = `s${index % 3}`;
    return make("span", one.name, item);
  });
  const chart = part("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", tabindex: 0, role: "slider",
    "aria-label": `${plot.title}: frame shown`, "aria-valuemin": 1, "aria-valuemax": data.views.length }, box);
  for (const share of [0, 0.5, 1]) part("line", { class: "grid", x1: 0, x2: WIDE, y1: HIGH * share, y2: HIGH * share }, chart);
  for (const each of data.views) {
    part("line", { class: "kept", x1: across(each.point), x2: across(each.point), y1: HIGH - 4, y2: HIGH }, chart);
  }
  plot.series.forEach((one, index) => {
    const points = one.values.map((value, n) => `${across(n).toFixed(1)},${up(value).toFixed(2)}`);
    if (points.length === 1) points.push(`${WIDE},${up(one.values[0]).toFixed(2)}`);
    part("polyline", { class: `curve s${index % 3}`, points: points.join(" ") }, chart);
  });
  const hover = part("line", { class: "hover", y1: 0, y2: HIGH, visibility: "hidden" }, chart);
  const now = part("line", { class: "now", y1: 0, y2: HIGH }, chart);
  const ends = make("div", undefined, box);
  ends.className = "ends";
  make("span", labels[0], ends);
  make("span", labels[labels.length - 1], ends);
  for (const share of [0, 0.5, 1]) {
    const tick = make("span", (high - share * (high - low)).toFixed(plot.digits), box);
    tick.className = "tick";
    const put = () => { tick.style.top = `${chart.getBoundingClientRect().top - box.getBoundingClientRect().top + share * chart.clientHeight}px`; };
    put();
    new ResizeObserver(put).observe(box);
  }
  const say = (index) => plot.series.forEach((one, n) => {
    const value = one.values[index];
    says[n].textContent = `${one.name} ${value === null ? "identical" : value.toFixed(plot.digits)}`;
  });
  const shareOf = (event) => {
    const area = chart.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1);
  };
  chart.addEventListener("pointermove", (event) => {
    const index = Math.round(shareOf(event) * (labels.length - 1));
    hover.setAttribute("x1", across(index));
    hover.setAttribute("x2", across(index));
    hover.setAttribute("visibility", "visible");
    say(index);
  });
  const mark = () => {
    const point = size().point;
    now.setAttribute("x1", across(point));
    now.setAttribute("x2", across(point));
    chart.setAttribute("aria-valuenow", String(view + 1));
    chart.setAttribute("aria-valuetext", size().caption);
    say(point);
  };
  chart.addEventListener("pointerleave", () => { hover.setAttribute("visibility", "hidden"); mark(); });
  chart.addEventListener("click", (event) => go(nearestView(shareOf(event))));
  chart.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: view - 1, ArrowRight: view + 1, Home: 0, End: data.views.length - 1 }[event.key];
    if (to === undefined || event.shiftKey) return;
    go(to);
    event.preventDefault();
  });
  plots.push(mark);
}

function markCurves() {
  for (const mark of plots) mark();
}

// Facts below --------------------------------------------------------------------------------------------------------

function fill() {
  at("facts").hidden = !data.table.rows.length;
  at("facts-title").textContent = data.table.title;
  const head = make("tr", undefined, make("thead", undefined, at("table")));
  for (const name of data.table.head) make("th", name, head).scope = "col";
  const body = make("tbody", undefined, at("table"));
  for (const row of data.table.rows) {
    const line = make("tr", undefined, body);
    for (const cell of row) make("td", cell, line);
  }
  at("remarks").hidden = !data.notes.length;
  for (const note of data.notes) make("li", note, at("notes"));
}

fill();
if (data.curve) data.curve.plots.forEach(drawPlot);
show();
shape();
new ResizeObserver(shape).observe(stage.parentElement);
window.addEventListener("resize", shape);
if (inside) {
  new ResizeObserver(() => window.parent.postMessage({ previewHeight: document.body.offsetHeight }, "*")).observe(document.body);
}
document.documentElement.dataset.ready = "true";
