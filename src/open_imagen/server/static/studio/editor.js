/* Editing an image: a mask by brush, a frame for outpainting; undo, zoom, and all of it by keyboard. */

import { $, clamp, say } from "./dom.js";
import { drawEditor } from "./paint.js";
import { PanZoom } from "./panzoom.js";

export const MAX_SIDE_PIXELS = 16 * 1024 * 1024;
/** The image that is edited: {image, width, height, file: Blob or gallery id, record}; null without one. */
export let source = null;
export const edit = { steps: [], undone: [], extend: [0, 0, 0, 0], tool: "brush", size: 40, cursor: null, mask: document.createElement("canvas"), view: null };
let stroke = null, dragged = null, panning = null, changed = () => {};

export const bounds = () => {
  const [left, top, right, bottom] = edit.extend;
  return [-left, -top, source.width + right, source.height + bottom];
};
function shownBox() {
  if (!source) return [1, 1];
  const [left, top, right, bottom] = bounds();
  return [right - left, bottom - top, left, top];
}
/** After a change of the frame: all of it is shown, as long as nobody has zoomed. */
const refit = () => (edit.view.fitted ? edit.view.fit() : draw());
export const isMasked = () => edit.steps.length > 0 && maskArea() > 0;

/** Begin with an image. @param file a Blob, or the id of an image of the gallery with its url */
export async function openImage(file, { record = null, url = null, name = "the image" } = {}) {
  const image = new Image(), address = url ?? URL.createObjectURL(file);
  image.src = address;
  try { await image.decode(); } catch {
    throw new Error(`${name} cannot be shown: it is no image that browsers know, or it is damaged. PNG, JPEG and WebP go.`);
  } finally { if (!url) URL.revokeObjectURL(address); }
  if (image.naturalWidth * image.naturalHeight > MAX_SIDE_PIXELS) throw new Error(`${name} has ${image.naturalWidth} × ${image.naturalHeight} pixels; at most 16.8 million go. Scale it down first.`);
  source = { image, width: image.naturalWidth, height: image.naturalHeight, file, record, url };
  Object.assign(edit, { steps: [], undone: [], extend: [0, 0, 0, 0], cursor: null, size: clamp(Math.round(Math.max(source.width, source.height) / 10), 4, 400) });
  edit.mask.width = source.width; edit.mask.height = source.height;
  $("brush-size").max = Math.max(64, Math.round(Math.max(source.width, source.height) / 2));
  $("brush-size").value = edit.size;
  $("editor").hidden = false; $("edit-group").hidden = false;
  $("edit-size").textContent = `${source.width} × ${source.height}`;
  $("strength-auto").checked = true; chooseTool("brush"); showStrength(); showExtension();
  edit.view.margin = 0.92; edit.view.fit();
  changed();
  $("editor").scrollIntoView({ block: "nearest" });
  $("canvas").focus({ preventScroll: true });
}
export function closeEditor() {
  source = null;
  $("editor").hidden = true; $("edit-group").hidden = true;
  changed();
}

/* The mask: steps that can be undone, painted again from the first one -------------------------------------- */
function paint(context, step) {
  const { width, height } = edit.mask;
  if (step.kind === "clear") context.clearRect(0, 0, width, height);
  else if (step.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillStyle = "#000"; context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
  } else {
    context.globalCompositeOperation = step.erase ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = "#000";
    context.lineWidth = step.size; context.lineCap = context.lineJoin = "round";
    context.beginPath();
    const [first, ...rest] = step.points;
    context.moveTo(...first);
    for (const point of rest.length ? rest : [[first[0] + 0.01, first[1]]]) context.lineTo(...point);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }
}
function repaint() {
  const context = edit.mask.getContext("2d");
  context.clearRect(0, 0, edit.mask.width, edit.mask.height);
  for (const step of edit.steps) if (step.kind !== "extend") paint(context, step);
  const extensions = edit.steps.filter(step => step.kind === "extend");
  edit.extend = extensions.length ? extensions.at(-1).extend : [0, 0, 0, 0];
  showExtension(); refit(); changed();
}
function add(step) {
  edit.steps.push(step); edit.undone = [];
  if (step.kind === "extend") { edit.extend = step.extend; showExtension(); } else if (step.kind !== "stroke") paint(edit.mask.getContext("2d"), step);
  refit(); changed();
}
export function undo() { const step = edit.steps.pop(); if (step) { edit.undone.push(step); repaint(); say("Undone."); } }
export function redo() { const step = edit.undone.pop(); if (step) { edit.steps.push(step); repaint(); say("Done again."); } }

/** Pixels of the mask, counted on a small copy. */
function maskArea() {
  const small = document.createElement("canvas"), side = 256;
  small.width = small.height = side;
  const context = small.getContext("2d", { willReadFrequently: true });
  context.drawImage(edit.mask, 0, 0, side, side);
  const data = context.getImageData(0, 0, side, side).data;
  let found = 0;
  for (let k = 3; k < data.length; k += 4) found += data[k] > 8;
  return found / (side * side);
}

/** The mask as the API takes it: a PNG that is transparent where the image is made anew; null without one. */
export function maskFile() {
  if (!isMasked()) return null;
  if (maskArea() > 0.9999) return null;
  const out = document.createElement("canvas");
  out.width = source.width; out.height = source.height;
  const context = out.getContext("2d", { willReadFrequently: true });
  context.drawImage(edit.mask, 0, 0);
  const pixels = context.getImageData(0, 0, out.width, out.height), data = pixels.data;
  for (let k = 0; k < data.length; k += 4) { data[k] = data[k + 1] = data[k + 2] = 0; data[k + 3] = data[k + 3] >= 128 ? 0 : 255; }
  context.putImageData(pixels, 0, 0);
  return new Promise(done => out.toBlob(done, "image/png"));
}

/* Tools --------------------------------------------------------------------------------------------------- */
const TOOLS = ["brush", "erase", "frame", "hand"];
export function chooseTool(name) {
  edit.tool = name;
  for (const tool of TOOLS) $(`tool-${tool}`).setAttribute("aria-pressed", String(tool === name));
  $("canvas").dataset.tool = name;
  $("extension").hidden = name !== "frame" && !edit.extend.some(Boolean);
  draw();
}
function setSize(size) {
  edit.size = clamp(Math.round(size), 1, Number($("brush-size").max));
  $("brush-size").value = edit.size;
  draw();
}
const usual = () => (isMasked() || edit.extend.some(Boolean) ? 1 : 0.6);
export function showStrength() {
  const auto = $("strength-auto").checked;
  $("strength").disabled = auto;
  if (auto) $("strength").value = source ? usual() : 0.6;
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
}
export const strength = () => ($("strength-auto").checked ? null : Number($("strength").value));

const SIDES = ["left", "top", "right", "bottom"];
function showExtension() {
  SIDES.forEach((side, k) => { $(`extend-${side}`).value = edit.extend[k]; });
  $("extension").hidden = edit.tool !== "frame" && !edit.extend.some(Boolean);
}
/** Sides of the result that the model can use: at most four times the image on each side. */
const fitting = extend => extend.map((value, k) => clamp(Math.round(value), 0, 4 * (k % 2 ? source.height : source.width)));
const handles = () => {
  const [left, top, right, bottom] = bounds();
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  return { left: [left, y], top: [x, top], right: [right, y], bottom: [x, bottom] };
};
function handleAt(event) {
  const [x, y] = edit.view.place(event), reach = (event.pointerType === "touch" ? 34 : 16) / edit.view.scale;
  const [left, top, right, bottom] = bounds();
  const near = { left: Math.abs(x - left), right: Math.abs(x - right), top: Math.abs(y - top), bottom: Math.abs(y - bottom) };
  const inside = side => (side === "left" || side === "right" ? y > top - reach && y < bottom + reach : x > left - reach && x < right + reach);
  return SIDES.filter(side => near[side] < reach && inside(side)).sort((a, b) => near[a] - near[b])[0] ?? null;
}

export function draw() { if (source && edit.view) drawEditor($("canvas"), source, edit, bounds(), edit.tool === "frame" ? handles() : null); }

/* Pointer ------------------------------------------------------------------------------------------------- */
function onDown(event) {
  if (!source || event.button > 1) return;
  $("canvas").setPointerCapture(event.pointerId);
  if (edit.view.down(event) > 1) { cancelStroke(); panning = dragged = null; return; }
  const tool = event.button === 1 || held.space ? "hand" : edit.tool;
  if (tool === "hand") panning = [event.clientX, event.clientY];
  else if (tool === "frame") { dragged = handleAt(event); if (!dragged) panning = [event.clientX, event.clientY]; } else {
    stroke = { kind: "stroke", erase: tool === "erase" || event.shiftKey, size: edit.size, points: [edit.view.place(event)] };
    paint(edit.mask.getContext("2d"), stroke); draw();
  }
}
function cancelStroke() { if (stroke) { stroke = null; repaint(); } }
function onMove(event) {
  if (!source) return;
  if (edit.view.pinch(event)) return;
  if (panning) {
    edit.view.move(event.clientX - panning[0], event.clientY - panning[1]);
    panning = [event.clientX, event.clientY];
  } else if (dragged) {
    const k = SIDES.indexOf(dragged), [x, y] = edit.view.place(event), extend = [...edit.extend];
    extend[k] = [-x, -y, x - source.width, y - source.height][k];
    edit.extend = fitting(extend); showExtension(); draw();
  } else if (stroke) {
    const from = stroke.points.at(-1);
    for (const one of event.getCoalescedEvents?.() ?? [event]) stroke.points.push(edit.view.place(one));
    paint(edit.mask.getContext("2d"), { ...stroke, points: [from, ...stroke.points.slice(stroke.points.indexOf(from) + 1)] });
  }
  edit.cursor = edit.view.place(event);
  if (edit.tool === "frame") $("canvas").dataset.side = handleAt(event) ?? "";
  draw();
}
function onUp(event) {
  edit.view.up(event);
  panning = null;
  if (dragged) { dragged = null; add({ kind: "extend", extend: edit.extend }); }
  if (stroke) { const done = stroke; stroke = null; add(done); }
}

/* Keys ---------------------------------------------------------------------------------------------------- */
const held = { space: false };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let keyStroke = false;

/** Arrows move the brush, Space paints there; with Alt they move the view, in the frame its right and lower side. */
function onKey(event) {
  if (!source) return;
  const arrow = ARROWS[event.key], view = edit.view;
  if (arrow && event.altKey) view.move(-40 * arrow[0], -40 * arrow[1]);
  else if (arrow && edit.tool === "frame") {
    const unit = event.shiftKey ? 64 : 16, [x, y] = arrow, extend = [...edit.extend];
    const side = event.ctrlKey ? (x ? 0 : 1) : (x ? 2 : 3);
    extend[side] += (event.ctrlKey ? -1 : 1) * unit * (x || y);
    add({ kind: "extend", extend: fitting(extend) });
  } else if (arrow) {
    const unit = event.shiftKey ? edit.size : Math.max(1, edit.size / 4);
    edit.cursor ??= [source.width / 2, source.height / 2];
    edit.cursor = [clamp(edit.cursor[0] + unit * arrow[0], 0, source.width), clamp(edit.cursor[1] + unit * arrow[1], 0, source.height)];
    if (keyStroke) dab(true);
    draw();
  } else if (event.key === " " && (edit.tool === "brush" || edit.tool === "erase")) {
    edit.cursor ??= [source.width / 2, source.height / 2];
    if (!event.repeat) { keyStroke = true; dab(false); }
  } else if (event.key === "[" || event.key === "]") setSize(edit.size * (event.key === "]" ? 1.25 : 0.8));
  else if (event.key === "+" || event.key === "=") view.zoom(1.25);
  else if (event.key === "-") view.zoom(0.8);
  else if (event.key === "0") view.fit();
  else if (event.key === "b") chooseTool("brush");
  else if (event.key === "e") chooseTool("erase");
  else if (event.key === "f") chooseTool("frame");
  else if (event.key === "h") chooseTool("hand");
  else if (event.key === "i") add({ kind: "invert" });
  else if (event.key === "Delete" || event.key === "Backspace") add({ kind: "clear" });
  else return;
  event.preventDefault();
}
function dab(joined) {
  const last = edit.steps.at(-1);
  if (joined && last?.byKey) { last.points.push([...edit.cursor]); repaint(); return; }
  const step = { kind: "stroke", byKey: true, erase: edit.tool === "erase", size: edit.size, points: [[...edit.cursor]] };
  paint(edit.mask.getContext("2d"), step);
  add(step);
}

export function startEditor(onChange) {
  const canvas = $("canvas");
  changed = () => { showStrength(); $("undo").disabled = !edit.steps.length; $("redo").disabled = !edit.undone.length; onChange(); };
  edit.view = new PanZoom(canvas, shownBox, draw);
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", onUp);
  canvas.addEventListener("pointerleave", () => { if (!stroke) { edit.cursor = null; draw(); } });
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("keyup", event => { if (event.key === " ") keyStroke = false; });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  document.addEventListener("keydown", event => {
    if (source && (event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "z" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) {
      event.preventDefault(); (event.shiftKey ? redo : undo)();
    }
  });
  for (const tool of TOOLS) $(`tool-${tool}`).onclick = () => chooseTool(tool);
  $("undo").onclick = undo; $("redo").onclick = redo;
  $("invert").onclick = () => add({ kind: "invert" });
  $("clear").onclick = () => add({ kind: "clear" });
  $("zoom-in").onclick = () => edit.view.zoom(1.25);
  $("zoom-out").onclick = () => edit.view.zoom(0.8);
  $("zoom-fit").onclick = () => { edit.view.margin = 0.92; edit.view.fit(); };
  $("brush-size").oninput = event => setSize(Number(event.target.value));
  $("strength").oninput = showStrength;
  $("strength-auto").onchange = showStrength;
  SIDES.forEach((side, k) => { $(`extend-${side}`).onchange = event => {
    const extend = [...edit.extend];
    extend[k] = Number(event.target.value) || 0;
    add({ kind: "extend", extend: fitting(extend) });
  }; });
}
