/* The studio: what the form asks for becomes jobs; what arrives is shown. */

import { anySeed, json } from "./api.js";
import { $, make, plural, say, toast, typing } from "./dom.js";
import { finishFrame, previewFrame, showEasel, startEasel } from "./easel.js";
import { closeEditor, edit, isMasked, maskFile, openImage, source, startEditor, strength } from "./editor.js";
import { addToGallery, chosenItems, gallery, startGallery } from "./gallery.js";
import { axisValues, promptsOf } from "./prompts.js";
import { add, cancel, cancelAll, jobs, retryKeyless, startQueue, state } from "./queue.js";
import { readRecord } from "./records.js";
import * as settings from "./settings.js";
import { openViewer, startViewer } from "./viewer.js";

const IDEAS = ["a red circle above a blue square", "three small pink hearts on a black background", "a {red|yellow|blue} star, gray background", "a green ring to the left of an orange cross"];
const MAX_JOBS = 400;

/* From the form to jobs ------------------------------------------------------------------------------------ */
function prompts() { return promptsOf($("prompt").value, $("list").checked); }

async function generate() {
  if (!$("prompt").value.trim()) { say("Say what should be in the picture.", true); $("prompt").focus(); return; }
  const wrong = settings.checkForm();
  if (wrong) { say(wrong, true); return; }
  say("Making …");
  try {
    if (!settings.locked() || !$("seed").value) $("seed").value = anySeed();
    const list = await jobsOfForm();
    if (list.length > MAX_JOBS) throw new Error(`These are ${list.length} jobs; at most ${MAX_JOBS} go into the queue at once.`);
    settings.keepForm();
    await add(list);
  } catch (error) { say(error.message, true); }
}

async function jobsOfForm() {
  const seed = $("seed").value, n = Number($("count").value), base = await baseJob(), found = [];
  const [columns, rows] = [axis("columns"), axis("rows")];
  for (const prompt of prompts()) {
    const job = { ...base, label: prompt, seed, n, body: { ...base.body, prompt } };
    if (columns || rows) found.push(...gridOf(job, columns, rows));
    else found.push(job);
  }
  if (found.length > 1 && !columns && !rows) for (const job of found) job.previews = 6;
  return found;
}

/** What all jobs of the form have in common. */
async function baseJob() {
  if (!source) return { kind: "generate", path: "/v1/images/generations", body: settings.formBody() };
  const body = settings.formBody({ edit: true }), files = { image: source.file }, mask = await maskFile();
  if (mask) files.mask = mask;
  if (edit.extend.some(Boolean)) body.extend = [...edit.extend];
  if (strength() !== null) body.strength = strength();
  return { kind: "edit", path: "/v1/images/edits", body, files, original: await originalOf() };
}
/** The image that is edited, as large as the result, for the slider. */
async function originalOf() {
  const [left, top, right, bottom] = edit.extend;
  if (!edit.extend.some(Boolean)) return typeof source.file === "string" ? { id: source.file, kind: source.url.split(".").at(-1) } : { blob: source.file };
  const canvas = make("canvas", { width: source.width + left + right, height: source.height + top + bottom });
  canvas.getContext("2d").drawImage(source.image, left, top);
  return { blob: await new Promise(done => canvas.toBlob(done, "image/png")) };
}

function axis(id) {
  const name = $(id).value;
  if (!name) return null;
  const values = axisValues($(`${id}-values`).value, settings.isNumeric(name));
  if (!values.length) throw new Error(`Grid: give values for ${settings.axisName(name)}, as in "1, 2, 4" or "1..4".`);
  if (name === "strength" && !source) throw new Error("Grid: strength belongs to an edit; open an image first.");
  return { name, values };
}
function gridOf(job, columns, rows) {
  const group = crypto.getRandomValues(new Uint32Array(2)).join("-"), one = axis => axis ?? { name: "", values: [""] };
  const label = (axis, value) => (axis.name ? `${settings.axisName(axis.name)} ${value}` : "");
  const [across, down] = [one(columns), one(rows)];
  return down.values.flatMap(row => across.values.map(column => {
    const made = structuredClone(job);
    for (const [axis, value] of [[across, column], [down, row]]) setAxis(made, axis.name, value);
    const cell = { row: label(down, row), column: label(across, column), caption: `${job.label} · seed ${job.seed}` };
    return { ...made, group, n: 1, previews: 4, cell, label: [job.label, cell.column, cell.row].filter(Boolean).join(" · ") };
  }));
}
function setAxis(job, name, value) {
  if (name === "seed") {
    if (!/^\d{1,18}$/.test(value)) throw new Error(`Grid: the seed "${value}" is not a whole number.`);
    job.seed = value;
  } else if (name === "strength") job.body.strength = Number(value);
  else if (name) {
    const [stage, setting] = name.split(".");
    job.body.settings = { ...job.body.settings, [stage]: { ...job.body.settings[stage], [setting]: settings.settingValue(setting, value) } };
  }
}

/* From an image to jobs ------------------------------------------------------------------------------------- */
const modelName = record => settings.modelOf(record)?.id ?? record.model;
function repeat({ record }) {
  const m = settings.modelOf(record) || settings.model(), usual = m.stages.some(s => record.size === `${s.resolution}x${s.resolution}`);
  const body = { prompt: record.prompt, model: modelName(record), stages: Object.keys(record.settings).length, settings: record.settings };
  if (record.negative) body.negative_prompt = record.negative;
  if (record.background === "transparent") body.background = "transparent";
  if (record.prompt_weights) body.prompt_weights = true;
  if (!usual) body.size = record.size;
  if (record.adapters?.length) body.adapters = settings.adaptersOf(record);
  return add([{ kind: "generate", path: "/v1/images/generations", label: record.prompt, seed: record.seed, n: 1, body }]);
}
const reference = item => item.id ? { image: item.id } : { image: item.url };
const asOriginal = item => (item.id ? { id: item.id, kind: item.kind } : null);
const vary = (item, amount, n, seed) => add([{ kind: "variation", path: "/v1/images/variations", label: item.record.prompt, seed, n,
  body: { amount }, files: reference(item), original: asOriginal(item) }]);
const upscale = item => add([{ kind: "upscale", path: "/v1/images/upscale", label: item.record.prompt, seed: item.record.seed, n: 1,
  body: { prompt: item.record.prompt, model: modelName(item.record) }, files: reference(item), original: asOriginal(item) }]);
async function editItem(item) {
  if (!$("prompt").value.trim()) $("prompt").value = item.record.prompt;
  const file = item.id || await blobOf(item.url);
  await openImage(file, { record: item.record, url: item.id ? item.url : null }).catch(error => say(error.message, true));
}
async function blobOf(dataUrl) {
  const [head, body] = dataUrl.split(","), text = atob(body);
  return new Blob([Uint8Array.from(text, sign => sign.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}
function use(item) {
  const known = settings.useRecord(item.record);
  describe();
  $("prompt").focus();
  say(known ? "Settings taken over." : `Settings taken over; the model ${item.record.model} is not served here.`, !known);
}

/* Images that come from outside --------------------------------------------------------------------------------- */
async function receive(file, ask = false) {
  if (!file) return;
  try {
    const record = await readRecord(file), start = () => openImage(file, { record, name: file.name || "The image" }).catch(error => say(error.message, true));
    if (!record || ask) { await start(); if (source && record && !$("prompt").value.trim()) $("prompt").value = record.prompt; return; }
    use({ record });
    toast("One of ours: its settings are in the form.", { text: "Edit it instead", run: start }, 15);
  } catch (error) { say(error.message, true); }
}
function startReceiving() {
  const isOurs = event => [...event.dataTransfer.types].some(type => type === "Files" || type === "application/x-gallery-image");
  let depth = 0;
  const shade = on => { depth = on ? depth : 0; $("drop").hidden = !on; };
  document.addEventListener("dragenter", event => { if (isOurs(event)) { depth += 1; if (event.dataTransfer.types.includes("Files")) shade(true); } });
  document.addEventListener("dragleave", event => { if (isOurs(event) && (depth -= 1) <= 0) shade(false); });
  document.addEventListener("dragover", event => { if (isOurs(event)) event.preventDefault(); });
  document.addEventListener("drop", event => {
    if (!isOurs(event)) return;
    event.preventDefault(); shade(false);
    const item = gallery.items.find(one => one.id === event.dataTransfer.getData("application/x-gallery-image"));
    if (item) editItem(item); else receive(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", event => {
    const file = [...event.clipboardData.files].find(one => one.type.startsWith("image/"));
    if (file) { event.preventDefault(); receive(file); }
  });
  $("open-image").onclick = () => $("file").click();
  $("file").onchange = () => { receive($("file").files[0]); $("file").value = ""; };
}

/* Showing ---------------------------------------------------------------------------------------------------- */
function showReading(headers) {
  const said = name => decodeURIComponent(headers.get(name) || ""), readAs = said("x-imagen-read-as");
  $("reading").textContent = [readAs && `Read as: ${readAs}`, said("x-imagen-hint"), said("x-imagen-prompt-cut")].filter(Boolean).join(" · ");
  $("reading").hidden = !$("reading").textContent;
}
/** How many images the form would make, and what the button does. */
function describe() {
  const grid = $("columns").value || $("rows").value;
  let text = "";
  try {
    const list = $("prompt").value.trim() ? prompts() : [], n = Number($("count").value);
    if (grid) {
      const cells = ["columns", "rows"].reduce((many, id) => many * ($(id).value ? axis(id).values.length : 1), 1);
      text = `A grid of ${plural(cells, "image")}${list.length > 1 ? `, for each of ${list.length} prompts` : ""}.`;
    } else if (list.length > 1) text = `${list.length} prompts × ${n} = ${list.length * n} images.`;
  } catch (error) { text = error.message; }
  $("many").textContent = text; $("many").hidden = !text;
  $("go").textContent = source ? (isMasked() || edit.extend.some(Boolean) ? "Fill in" : "Make it anew") : "Generate";
  $("go-narrow").textContent = $("go").textContent;
  $("size-label").textContent = source ? "Drawn at" : "Size";
  $("list-row").hidden = !$("prompt").value.includes("\n");
}
const begun = new Map(), known = new Set();
/** Images that another tab has received go into the gallery, once. */
function showNew() {
  for (const item of jobs.flatMap(job => Object.values(job.items))) {
    if (item.id && !known.has(item.id)) { known.add(item.id); addToGallery(item); }
  }
}
/** Say how a group of jobs ended. */
function report(job) {
  if (job.state === "failed") { say(job.error, true); return; }
  const group = jobs.filter(one => one.group === job.group);
  if (job.state !== "done" || group.some(one => one.state === "waiting")) return;
  const items = group.flatMap(one => Object.values(one.items)), done = items.length, lost = items.filter(item => !item.id).length;
  const seconds = (Date.now() - (begun.get(job.group) ?? job.begun)) / 1000;
  const which = lost === done ? (done === 1 ? "it" : "them") : `${lost} of them`;
  say(`${plural(done, "picture")} in ${seconds.toFixed(1)} s` + (lost ? `. The gallery could not save ${which}: its disk is full or cannot be written. Download it, or delete pictures to make room.` : ""), lost > 0);
}

/** Stop what runs; it can be put back. */
async function stop(everything) {
  const list = jobs.filter(job => (everything ? job.state !== "done" : state(job) === "running"));
  if (!list.length) return;
  const copies = list.map(({ fraction, begun, ...job }) => ({ ...job, state: "waiting", note: "", after: 0 }));
  if (everything) await cancelAll(); else for (const job of list) await cancel(job);
  say("Stopped.");
  toast(`${plural(list.length, "job")} stopped.`, { text: "Undo", run: () => add(copies.filter(copy => !jobs.some(job => job.id === copy.id))) });
}

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { if (document.querySelector("dialog[open]")) return; event.preventDefault(); generate(); return; }
  if (document.querySelector("dialog[open]") || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { stop(false); return; }
  if (typing()) return;
  if (event.key === "/") { event.preventDefault(); $("prompt").focus(); } else if (event.key === "g") { event.preventDefault(); $("search").focus(); } else if (event.key === "o") $("open-image").click();
  else if (event.key === "?") $("help").showModal();
}

function startForm() {
  $("form").onsubmit = event => { event.preventDefault(); generate(); };
  $("form").addEventListener("input", () => { settings.keepForm(); describe(); });
  $("stop").onclick = () => stop(true);
  $("shuffle").onclick = () => { $("seed").value = anySeed(); settings.keepForm(); };
  $("lock").onclick = () => { settings.lock(!settings.locked()); settings.keepForm(); };
  $("reset").onclick = () => { settings.clearSettings(); settings.keepForm(); say("The model's own settings."); };
  $("model").onchange = () => { settings.showModel(); describe(); };
  $("size").onchange = () => { settings.showCustom(); if ($("size").value === "custom") $("width").focus(); };
  $("swap").onclick = () => { [$("width").value, $("height").value] = [$("height").value, $("width").value]; settings.keepForm(); };
  $("more").ontoggle = settings.keepForm;
  $("close-editor").onclick = () => { closeEditor(); $("prompt").focus(); };
  $("show-help").onclick = () => $("help").showModal();
  $("close-help").onclick = () => $("help").close();
  $("give-key").onclick = () => begin();
  $("compare-two").onclick = () => { const [after, before] = chosenItems(); openViewer(after, before.url); };
  $("ideas").replaceChildren(...IDEAS.map(text => make("button", { type: "button", textContent: text, onclick: () => { $("prompt").value = text; describe(); generate(); } })));
  document.addEventListener("keydown", onKey);
}

let started = false;
async function begin() {
  try {
    $("give-key").hidden = true;
    settings.setModels((await json("/v1/models")).data);
    describe();
    if (!started) {
      started = true;
      await startQueue({
        changed: job => { showNew(); for (const one of jobs) if (state(one) === "running" && !begun.has(one.group)) begun.set(one.group, Date.now()); showEasel(); if (job) report(job); },
        progress: previewFrame,
        finished: (job, index, item) => { known.add(item.id); finishFrame(job, index, item); addToGallery(item); },
        reading: showReading,
      });
    } else retryKeyless();
    await startGallery(item => openViewer(item));
    say($("status").classList.contains("bad") ? "" : $("status").textContent);
    $("prompt").focus({ preventScroll: true });
  } catch (error) { say(error.message, true); }
}

startForm(); startEasel(item => openViewer(item)); startEditor(describe); startReceiving();
startViewer({ repeat, vary, upscale, edit: editItem, use });
begin();
