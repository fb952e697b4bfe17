/* What is being made now, and what was made last: previews that sharpen, or a table of a grid. */

import { $, make } from "./dom.js";
import { jobs, state } from "./queue.js";

const frames = new Map();
let current = "", open = () => {};
export function startEasel(onOpen) { open = onOpen; }

/** The group that is shown: the one that runs, else the latest. */
function group() {
  const busy = jobs.find(job => state(job) === "running" && Object.keys(job.items).length < job.n);
  return (busy ?? jobs.filter(job => job.state === "done").at(-1) ?? jobs[0])?.group ?? "";
}

/** Build the frames of the group, without touching those that are there. */
export function showEasel() {
  const name = group(), list = jobs.filter(job => job.group === name && job.state !== "failed"), easel = $("easel");
  if (name !== current) { frames.clear(); current = name; easel.replaceChildren(); }
  const number = list.reduce((sum, job) => sum + job.n, 0);
  easel.hidden = !number; $("empty").hidden = number > 0;
  easel.classList.toggle("one", number === 1); easel.classList.toggle("grid", Boolean(list[0]?.cell));
  easel.classList.toggle("many", number > 4);
  const wanted = list.flatMap(job => Array.from({ length: job.n }, (_, k) => frameOf(job, k)));
  if (list[0]?.cell) { table(list); return; }
  const same = easel.children.length === wanted.length && wanted.every((frame, k) => easel.children[k] === frame);
  if (same) return;
  for (const old of [...easel.children]) if (!wanted.includes(old)) old.remove();
  wanted.forEach((frame, k) => { if (easel.children[k] !== frame) easel.insertBefore(frame, easel.children[k] ?? null); });
}

function table(list) {
  const easel = $("easel"), [rows, columns] = ["row", "column"].map(side => [...new Set(list.map(job => job.cell[side]))]);
  const key = list.map(job => job.id).join();
  if (easel.dataset.table === key && easel.firstChild) return;
  easel.dataset.table = key;
  const head = make("tr", {}, make("td"), ...columns.map(text => make("th", { textContent: text, scope: "col" })));
  const body = rows.map(row => make("tr", {}, make("th", { textContent: row, scope: "row" }), ...columns.map(column => {
    const job = list.find(one => one.cell.row === row && one.cell.column === column);
    return make("td", {}, ...(job ? [frameOf(job, 0)] : []));
  })));
  easel.replaceChildren(make("table", {}, make("caption", { textContent: list[0].cell.caption }), make("thead", {}, head), make("tbody", {}, ...body)));
}

function frameOf(job, index) {
  const key = `${job.id}:${index}`;
  const known = frames.get(key);
  if (known) { if (job.items[index] && known.classList.contains("making")) finishFrame(job, index, job.items[index]); return known; }
  const frame = make("div", { className: "frame making" }, make("span", { className: "note", textContent: "waiting" }), make("span", { className: "bar" }, make("i")));
  frame.title = job.label;
  frames.set(key, frame);
  if (job.items[index]) finishFrame(job, index, job.items[index]);
  return frame;
}

export function previewFrame(job, index, url, event) {
  const frame = frames.get(`${job.id}:${index}`);
  if (!frame) return;
  let image = frame.querySelector("img");
  if (!image) { image = make("img", { alt: "" }); frame.prepend(image); }
  image.src = url;
  frame.dataset.previews = Number(frame.dataset.previews || 0) + 1;
  frame.querySelector(".note").textContent = event.stage;
  frame.querySelector(".bar i").style.width = `${100 * event.progress}%`;
}

export function finishFrame(job, index, item) {
  const frame = frames.get(`${job.id}:${index}`);
  if (!frame) return;
  frame.classList.remove("making"); frame.dataset.id = item.id || "not saved";
  if (item.width) frame.style.aspectRatio = `${item.width} / ${item.height}`;
  const button = make("button", { type: "button", title: item.record.prompt, aria: { label: `Open: ${item.record.prompt}` } },
    make("img", { src: item.url, alt: item.record.prompt }));
  button.onclick = () => open(item);
  button.firstChild.onerror = () => { frame.replaceChildren(make("span", { className: "note", textContent: "deleted" })); };
  frame.replaceChildren(button, ...(item.id ? [] : [make("span", { className: "note", textContent: "not saved" })]));
}
