/* One image at full size: its record, what can be made of it, zoom, and before and after. */

import { anySeed, fileUrl } from "./api.js";
import { setDivider, showBefore, startCompare } from "./compare.js";
import { get } from "./database.js";
import { $, fileName, make } from "./dom.js";
import { gallery, removeItems, setStar } from "./gallery.js";
import { PanZoom } from "./panzoom.js";
import { adaptersOf, modelOf } from "./settings.js";

let seen = null, view = null, beforeUrl = "", last = null;
export const shown = () => seen;

export async function openViewer(item, before = null) {
  seen = item;
  const { record } = item;
  $("large").src = item.url; $("large").alt = record.prompt;
  $("words").textContent = record.prompt;
  $("facts").replaceChildren(...Object.entries(facts(item)).flatMap(([k, v]) => [make("dt", { textContent: k }), make("dd", { textContent: v })]));
  const m = modelOf(record), side = Math.max(...record.size.split("x").map(Number));
  $("upscale").disabled = !m || !m.stages.some((s, k) => k && s.resolution > side);
  $("again").disabled = Boolean(record.made_by && record.made_by !== "generate");
  $("vary").disabled = Boolean(record.made_by && record.made_by !== "generate");
  $("download").href = item.url; $("download").download = fileName(item);
  $("forget").disabled = !item.removable;
  $("view-star").disabled = !item.id;
  $("view-star").setAttribute("aria-pressed", String(Boolean(item.starred)));
  const k = place(), many = gallery.items.length;
  $("previous").disabled = !gallery.items[k - 1]; $("next").disabled = !gallery.items[k + 1];
  $("position").textContent = k >= 0 ? `${k + 1} of ${many}${gallery.more ? " and more" : ""}` : "";
  if (!$("viewer").open) { last = document.activeElement; $("viewer").showModal(); $("again").disabled ? $("close").focus() : $("again").focus(); }
  showBefore(null);
  const url = before ?? await original(item);
  if (seen !== item) return;
  showBefore(url);
  await $("large").decode().catch(() => {});
  if (seen === item) { view.margin = 1; view.fit(); }
}

/** What an image was made from, if this browser still has it. */
async function original(item) {
  if (beforeUrl) { URL.revokeObjectURL(beforeUrl); beforeUrl = ""; }
  const found = item.id && await get("originals", item.id);
  if (!found) return null;
  if (found.blob) { beforeUrl = URL.createObjectURL(found.blob); return beforeUrl; }
  return fileUrl(found.id, found.kind);
}

function facts(item) {
  const { record } = item, found = { Size: record.size, Seed: record.seed, Model: `${record.model} ${record.model_hash ?? ""}` };
  if (record.made_by && record.made_by !== "generate") found["Made by"] = record.made_by;
  if (record.read_as) found["Read as"] = record.read_as;
  if (record.negative) found["Away from"] = record.negative;
  if (record.edit?.strength) found.Strength = [...new Set(Object.values(record.edit.strength))].join(", ");
  if (record.variations) found.Variation = record.variations.map(v => `${v.amount} towards seed ${v.seed}`).join(", then ");
  if (record.adapters) found.Adapters = Object.entries(adaptersOf(record)).map(([name, weight]) => `${name} ${weight}`).join(", ");
  if (!item.removable) found.File = item.id ? "not written by this server; remove it in its folder" : "not saved in the gallery; download it";
  for (const [stage, v] of Object.entries(record.settings)) {
    found[stage] = [`${v.steps} steps`, `guidance ${v.guidance}`, v.sampler, v.threshold, v.noise_level === undefined ? "" : `noise ${v.noise_level}`].filter(Boolean).join(", ");
  }
  return found;
}

const place = () => gallery.items.findIndex(item => item.id && item.id === seen?.id);
function step(by) {
  const next = gallery.items[place() + by];
  if (next && place() >= 0) openViewer(next);
}
function drawView() {
  const [width, height] = imageSize();
  $("pan").style.transform = `translate(${view.x}px, ${view.y}px)`;
  $("pan").style.width = `${width * view.scale}px`;
  $("pan").style.height = `${height * view.scale}px`;
  $("pan").classList.toggle("sharp", view.scale >= 3);
}
const imageSize = () => [$("large").naturalWidth || 1, $("large").naturalHeight || 1];

export function closeViewer() { $("viewer").close(); }

/** @param acts what can be done: repeat, vary, upscale, edit, use */
export function startViewer(acts) {
  const area = $("area");
  view = new PanZoom(area, imageSize, drawView);
  let from = null;
  area.addEventListener("pointerdown", event => { if (event.target.closest("button")) return; area.setPointerCapture(event.pointerId); from = view.down(event) === 1 ? [event.clientX, event.clientY] : null; });
  area.addEventListener("pointermove", event => {
    if (view.pinch(event) || !from || !view.pointers.has(event.pointerId)) return;
    view.move(event.clientX - from[0], event.clientY - from[1]);
    from = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) area.addEventListener(end, event => { view.up(event); from = null; });
  area.addEventListener("dblclick", () => (view.fitted ? view.zoom(3) : view.fit()));
  const leave = then => () => { const item = seen; closeViewer(); then(item); };
  $("again").onclick = leave(acts.repeat);
  $("vary").onclick = leave(item => acts.vary(item, Number($("amount").value), Number($("vary-count").value), anySeed()));
  $("upscale").onclick = leave(acts.upscale);
  $("edit").onclick = leave(acts.edit);
  $("use").onclick = leave(acts.use);
  $("forget").onclick = leave(item => removeItems([item]));
  $("view-star").onclick = async () => { await setStar([seen], !seen.starred); $("view-star").setAttribute("aria-pressed", String(Boolean(seen.starred))); };
  $("amount").oninput = () => { $("amount-value").textContent = Number($("amount").value).toFixed(2); };
  $("close").onclick = closeViewer;
  $("previous").onclick = () => step(-1); $("next").onclick = () => step(1);
  $("view-in").onclick = () => view.zoom(1.5); $("view-out").onclick = () => view.zoom(1 / 1.5); $("view-fit").onclick = () => view.fit();
  $("viewer").addEventListener("close", () => { if (last?.isConnected) last.focus(); });
  $("viewer").onclick = event => { if (event.target === $("viewer")) closeViewer(); };
  $("viewer").addEventListener("keydown", event => {
    if (event.target.type === "range" || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, move = moves[event.key];
    if (move && (event.shiftKey || (!view.fitted && view.scale > view.fitScale * 1.01))) view.move(60 * move[0], 60 * move[1]);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "+" || event.key === "=") view.zoom(1.5);
    else if (event.key === "-") view.zoom(1 / 1.5);
    else if (event.key === "0") view.fit();
    else if (event.key === "s") $("view-star").click();
    else if (event.key === "e") $("edit").click();
    else if (event.key === "Delete" && seen.removable) $("forget").click();
    else return;
    event.preventDefault();
  });
  startCompare();
  setDivider(50);
}
