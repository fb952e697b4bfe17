/* Jobs: kept in the browser's database, sent to the server three at a time, taken up again after a reload. */

import { call, events, fileUrl, Later, NoKey, seedPlus, write } from "./api.js";
import { all, keepOriginal, put, remove } from "./database.js";
import { $, iconButton, make, newId, plural, say } from "./dom.js";

const AT_ONCE = 3;
const RETRY_LIMIT = 200;
export const jobs = [];
const running = new Map();
const channel = "BroadcastChannel" in window ? new BroadcastChannel("open-imagen-studio") : null;
let leads = false;
let show = { changed() {}, progress() {}, finished() {}, reading() {} };

export const state = job => (running.has(job.id) ? "running" : job.state);
export const made = job => Object.keys(job.items).length;

/** Begin: read the jobs of the last visit, and run them in one of the open tabs. */
export async function startQueue(handlers) {
  show = { ...show, ...handlers };
  await reload();
  if (channel) channel.onmessage = async () => { if (!leads) await reload(); else await adopt(); };
  const lead = () => { leads = true; pump(); return new Promise(() => {}); };
  if (navigator.locks) navigator.locks.request("open-imagen-studio-queue", lead);
  else lead();
}

async function reload() {
  jobs.splice(0, jobs.length, ...(await all("jobs")).sort((a, b) => a.order - b.order));
  render(); show.changed();
}

/** Take over what another tab has added, moved or removed. */
async function adopt() {
  const stored = await all("jobs"), ids = new Set(stored.map(job => job.id));
  for (const job of [...jobs]) if (!ids.has(job.id)) { running.get(job.id)?.abort(); jobs.splice(jobs.indexOf(job), 1); }
  for (const one of stored) {
    const mine = jobs.find(job => job.id === one.id);
    if (mine) { if (!running.has(one.id)) Object.assign(mine, one); } else jobs.push(one);
  }
  jobs.sort((a, b) => a.order - b.order);
  render(); show.changed(); pump();
}
const tellOthers = () => channel?.postMessage("changed");
const keep = async job => { await put("jobs", job.id, job); tellOthers(); };

export async function add(list) {
  say(list.length > 1 ? `${list.length} jobs in the queue.` : "Making …");
  const last = jobs.reduce((most, job) => Math.max(most, job.order), 0), group = newId();
  const fresh = list.map((job, k) => ({ id: newId(), group, state: "waiting", items: {}, created: Date.now(), order: last + 1 + k, ...job }));
  await forgetDone(group);
  for (const job of fresh) await put("jobs", job.id, job);
  jobs.push(...fresh);
  tellOthers(); render(); show.changed(); pump();
  return fresh;
}

/** Jobs that are done stay until the next ones, so that a reload shows their images again. */
async function forgetDone(group) {
  const busy = new Set(jobs.filter(job => job.state !== "done").map(job => job.group));
  for (const job of jobs.filter(one => one.state === "done" && one.group !== group && !busy.has(one.group))) {
    jobs.splice(jobs.indexOf(job), 1);
    await remove("jobs", job.id);
  }
}

export async function cancel(job) {
  running.get(job.id)?.abort();
  running.delete(job.id);
  if (made(job)) {
    Object.assign(job, { state: "done", n: made(job), items: Object.fromEntries(Object.values(job.items).map((item, k) => [k, item])) });
    await keep(job);
  } else {
    jobs.splice(jobs.indexOf(job), 1);
    await remove("jobs", job.id); tellOthers();
  }
  render(); show.changed(); pump();
}
export async function cancelAll() {
  const list = jobs.filter(job => job.state !== "done");
  for (const job of list.reverse()) await cancel(job);
  return list.length;
}

/** Move a waiting job before or behind its neighbour. */
export async function move(job, by) {
  const waiting = jobs.filter(one => state(one) === "waiting"), other = waiting[waiting.indexOf(job) + by];
  if (!other) return;
  [job.order, other.order] = [other.order, job.order];
  jobs.sort((a, b) => a.order - b.order);
  await keep(job); await keep(other);
  render(); show.changed();
  focusRow(job, by < 0 ? "up" : "down");
}
async function moveTo(job, target) {
  const waiting = jobs.filter(one => state(one) === "waiting"), from = waiting.indexOf(job), to = waiting.indexOf(target);
  if (from < 0 || to < 0 || from === to) return;
  const orders = waiting.map(one => one.order);
  waiting.splice(to, 0, ...waiting.splice(from, 1));
  waiting.forEach((one, k) => { one.order = orders[k]; });
  jobs.sort((a, b) => a.order - b.order);
  for (const one of waiting) await keep(one);
  render(); show.changed();
}
export async function retry(job) {
  Object.assign(job, { state: "waiting", error: "", tries: 0 });
  await keep(job);
  render(); show.changed(); pump();
}

function pump() {
  if (!leads) return;
  for (const job of jobs) {
    if (running.size >= AT_ONCE) return;
    if (job.state === "waiting" && !running.has(job.id) && !(job.after > Date.now())) run(job);
  }
}

async function run(job) {
  const work = new AbortController(), begun = performance.now();
  running.set(job.id, work);
  job.fraction = {}; job.begun = Date.now(); job.note = "";
  render(); show.changed();
  try {
    while (made(job) < job.n) await request(job, work.signal);
    if (work.signal.aborted) return;
    Object.assign(job, { state: "done", seconds: (performance.now() - begun) / 1000 });
  } catch (error) {
    if (error.name === "AbortError" || work.signal.aborted) return;
    if (error instanceof Later && (job.tries = (job.tries || 0) + 1) <= RETRY_LIMIT) {
      Object.assign(job, { after: Date.now() + error.seconds * 1000, note: `${error.message} Trying again …` });
      say(job.note, true);
      setTimeout(pump, error.seconds * 1000 + 20);
    } else Object.assign(job, { state: "failed", error: error.message, ...(error instanceof NoKey ? { needsKey: true } : {}) });
  } finally { if (running.get(job.id) === work) running.delete(job.id); }
  if (!jobs.includes(job)) return;
  delete job.fraction;
  await keep(job);
  render(); show.changed(job); pump();
}
export function retryKeyless() { for (const job of jobs.filter(one => one.needsKey)) { job.needsKey = false; retry(job); } }

/** Ask for the first images that are still missing. */
async function request(job, signal) {
  const first = Array.from({ length: job.n }, (_, k) => k).find(k => !job.items[k]);
  let number = 1;
  while (first + number < job.n && !job.items[first + number]) number += 1;
  const body = { ...job.body, stream: true, previews: job.previews ?? 24, seed: seedPlus(job.seed, first) };
  if (job.path !== "/v1/images/upscale") body.n = number;
  for (const [name, value] of Object.entries(job.files || {})) body[name] = value instanceof Blob ? await dataUrl(value) : value;
  const answer = await call(job.path, { method: "POST", signal, body: write(body) });
  show.reading(answer.headers);
  let finished = 0;
  for await (const event of events(answer.body)) {
    if (event.type === "error") throw event.error.type === "server_error" && /stopping/.test(event.error.message) ? new Later(event.error.message, 5) : new Error(event.error.message);
    const index = first + (event.image_index ?? 0), url = `data:image/${event.output_format};base64,${event.b64_json}`;
    if (event.type.endsWith("partial_image")) {
      (job.fraction ??= {})[index] = event.progress;
      show.progress(job, index, url, event);
      renderProgress(job);
    } else {
      finished += 1;
      const item = { id: event.id, kind: event.output_format, removable: event.saved, record: event.record, created: Date.now() / 1000,
        url: event.saved ? fileUrl(event.id, event.output_format) : url };
      [item.width, item.height] = event.record.size.split("x").map(Number);
      job.items[index] = item;
      if (event.saved && job.original) await keepOriginal(event.id, job.original);
      await keep(job);
      show.finished(job, index, item);
      renderProgress(job);
    }
  }
  if (!finished) throw new Later("The connection to the server was lost.", 3);
}
export const dataUrl = blob => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(new Error("The image is no longer there; open it again."));
  reader.readAsDataURL(blob);
});

/* The list ---------------------------------------------------------------------------------------------- */
export function progressOf(job) {
  const parts = Array.from({ length: job.n }, (_, k) => (job.items[k] ? 1 : job.fraction?.[k] || 0));
  return parts.reduce((sum, part) => sum + part, 0) / job.n;
}
function describe(job) {
  if (job.state === "failed") return job.error;
  if (job.note && !running.has(job.id)) return job.note;
  const count = job.n > 1 ? `${made(job)} of ${job.n}` : "";
  if (!running.has(job.id)) return [job.kind, count || "waiting"].filter(Boolean).join(", ");
  const done = progressOf(job), left = done > 0.05 ? (Date.now() - job.begun) * (1 - done) / done / 1000 : 0;
  return [job.kind, count, left > 3 ? `about ${Math.ceil(left)} s left` : ""].filter(Boolean).join(", ");
}

function row(job) {
  const words = make("div", { className: "words" }, make("b", { textContent: job.label }), make("span", { className: "what", textContent: describe(job) }));
  const name = `${job.kind}: ${job.label}`, bar = make("progress", { max: 1, value: progressOf(job), aria: { label: `Progress of ${name}` } });
  const acts = make("span", { className: "row-acts" });
  if (state(job) === "waiting") {
    const up = iconButton("up", `Earlier: ${job.label}`, () => move(job, -1)), down = iconButton("down", `Later: ${job.label}`, () => move(job, 1));
    up.dataset.act = "up"; down.dataset.act = "down";
    acts.append(up, down);
  }
  if (job.state === "failed") acts.append(iconButton("again", `Try again: ${job.label}`, () => retry(job)));
  acts.append(iconButton("close", `Cancel: ${job.label}`, () => cancel(job)));
  const item = make("li", { className: `job ${state(job)}`, data: { id: job.id } }, words, ...(state(job) === "running" ? [bar] : []), acts);
  if (state(job) === "waiting") {
    item.draggable = true;
    item.ondragstart = event => { event.dataTransfer.setData("application/x-job", job.id); event.dataTransfer.effectAllowed = "move"; };
    item.ondragover = event => { if (event.dataTransfer.types.includes("application/x-job")) event.preventDefault(); };
    item.ondrop = event => {
      const dragged = jobs.find(one => one.id === event.dataTransfer.getData("application/x-job"));
      if (dragged) { event.preventDefault(); event.stopPropagation(); moveTo(dragged, job); }
    };
  }
  return item;
}
function focusRow(job, act) {
  const row = $("jobs").querySelector(`[data-id="${job.id}"]`);
  (row?.querySelector(`[data-act="${act}"]`) || row?.querySelector("button"))?.focus();
}

/** Draw the list anew; the keyboard's focus stays where it was. */
export function render() {
  const list = jobs.filter(job => job.state !== "done"), active = document.activeElement, held = active?.closest?.("#jobs li")?.dataset.id;
  const act = active?.getAttribute?.("aria-label");
  $("jobs").replaceChildren(...list.map(row));
  $("queue").hidden = list.length === 0;
  $("queue-count").textContent = plural(list.length, "job");
  $("stop").hidden = list.length === 0;
  if (held) {
    const again = [...$("jobs").querySelectorAll("button")];
    (again.find(button => button.getAttribute("aria-label") === act) || again[0] || $("prompt")).focus({ preventScroll: true });
  }
  title();
}
function renderProgress(job) {
  const item = $("jobs").querySelector(`[data-id="${job.id}"]`);
  if (!item) return;
  const bar = item.querySelector("progress");
  if (bar) bar.value = progressOf(job);
  item.querySelector(".what").textContent = describe(job);
  title();
}
function title() {
  const busy = jobs.filter(job => running.has(job.id));
  const done = busy.length ? busy.reduce((sum, job) => sum + progressOf(job), 0) / busy.length : 0;
  document.title = busy.length ? `${Math.round(100 * done)} % · Open Imagen studio` : "Open Imagen studio";
}
