/* The gallery: only the tiles in sight are in the page, so that thousands of images scroll smoothly. */

import { asItem, call, json, keyHeaders, thumbnailUrl } from "./api.js";
import { $, fileName, iconButton, make, plural, recall, remember, say, toast } from "./dom.js";

const PAGE = 100;
const GAP = 10;
const UNDO_SECONDS = 8;
export const gallery = { items: [], more: true, words: "", starred: false, choosing: false, chosen: new Set() };
let loading = null, query = 0, columns = 1, pitch = 1, active = 0, anchor = null, open = () => {};
const tiles = new Map();
const pending = new Map();

const hidden = item => pending.has(item.id);
const matches = item => (!gallery.starred || item.starred) && gallery.words.toLowerCase().split(/\s+/).every(word => item.record.prompt.toLowerCase().includes(word));

async function loadMore() {
  if (loading || !gallery.more) return loading;
  const mine = query;
  loading = (async () => {
    const asked = new URLSearchParams({ limit: PAGE });
    if (gallery.items.length) asked.set("before", gallery.items.at(-1).created);
    if (gallery.words) asked.set("search", gallery.words);
    if (gallery.starred) asked.set("starred", "true");
    const page = await json(`/v1/gallery?${asked}`);
    if (mine !== query) return;
    const known = new Set(gallery.items.map(item => item.id));
    gallery.items.push(...page.data.map(asItem).filter(item => !known.has(item.id) && !hidden(item)));
    gallery.more = page.more;
  })();
  try { await loading; } finally { loading = null; }
  layout();
}

/** Begin anew, as after another search. */
export async function refresh() {
  query += 1; loading = null;
  Object.assign(gallery, { items: [], more: true });
  active = 0;
  await loadMore();
}

export function addToGallery(item) {
  if (!item.id || gallery.items.some(one => one.id === item.id) || !matches(item)) return;
  gallery.items.unshift({ starred: false, ...item });
  if (document.activeElement?.closest("#wall")) active += 1;
  layout();
}

/* Tiles --------------------------------------------------------------------------------------------------- */
function layout() {
  const wall = $("wall"), width = wall.clientWidth;
  if (!width) return;
  columns = width < 520 ? 3 : Math.max(3, Math.floor((width + GAP) / (150 + GAP)));
  pitch = (width + GAP) / columns;
  const rows = Math.ceil(gallery.items.length / columns);
  wall.style.height = `${Math.max(0, rows * pitch - GAP)}px`;
  $("nothing").hidden = gallery.items.length > 0 || gallery.more;
  $("nothing").textContent = gallery.words || gallery.starred ? "Nothing is found." : "Nothing yet.";
  $("gallery-count").textContent = gallery.items.length ? plural(gallery.items.length, "image") + (gallery.more ? " so far" : "") : "";
  for (const [id, tile] of tiles) if (!gallery.items.includes(tile.item)) { tile.remove(); tiles.delete(id); }
  drawTiles();
}

function drawTiles() {
  const wall = $("wall"), top = wall.getBoundingClientRect().top;
  const first = Math.max(0, (Math.floor((-top - innerHeight * 0.5) / pitch)) * columns);
  const last = Math.min(gallery.items.length, (Math.ceil((innerHeight * 1.5 - top) / pitch)) * columns);
  active = Math.min(active, Math.max(0, gallery.items.length - 1));
  /* The first rows and the tile with the keyboard's place are always there, so that Tab reaches them. */
  const ahead = Array.from({ length: Math.min(2 * columns, gallery.items.length) }, (_, k) => k);
  const sight = Array.from({ length: Math.max(0, last - first) }, (_, k) => first + k);
  const wanted = new Set([...ahead, active, ...sight].filter(k => gallery.items[k]).sort((x, y) => x - y));
  const ids = new Set([...wanted].map(k => gallery.items[k].id));
  for (const [id, tile] of tiles) if (!ids.has(id) && !tile.contains(document.activeElement)) { tile.remove(); tiles.delete(id); }
  let before = null;
  for (const k of wanted) {
    const item = gallery.items[k];
    let tile = tiles.get(item.id);
    if (!tile) {
      tile = makeTile(item);
      tiles.set(item.id, tile);
      if (before) before.after(tile); else wall.prepend(tile);
    }
    before = tile;
    place(tile, k);
  }
  if (gallery.more && last > gallery.items.length - 3 * columns && top < innerHeight * 2.5) loadMore().catch(error => say(error.message, true));
}

function place(tile, k) {
  const at = `${k % columns},${Math.floor(k / columns)},${pitch},${k === active}`;
  if (tile.at === at) return;
  tile.at = at;
  tile.style.transform = `translate(${(k % columns) * pitch}px, ${Math.floor(k / columns) * pitch}px)`;
  tile.style.width = tile.style.height = `${pitch - GAP}px`;
  tile.setAttribute("aria-posinset", k + 1);
  tile.setAttribute("aria-setsize", gallery.more ? -1 : gallery.items.length);
  tile.querySelector(".tile").tabIndex = k === active ? 0 : -1;
}

function makeTile(item) {
  const image = make("img", { src: thumbnailUrl(item), alt: "", decoding: "async", draggable: false });
  const button = make("button", { type: "button", className: "tile", title: item.record.prompt, tabIndex: -1, data: { id: item.id }, aria: { label: item.record.prompt } }, image);
  const pick = iconButton("check", `Select: ${item.record.prompt}`, event => choose(item, event.shiftKey));
  const star = iconButton("star", `Star: ${item.record.prompt}`, () => setStar([item], !item.starred));
  pick.classList.add("pick"); star.classList.add("star");
  pick.tabIndex = star.tabIndex = -1;
  const tile = make("li", {}, button, pick, star);
  tile.item = item;
  button.onclick = event => (gallery.choosing || gallery.chosen.size || event.ctrlKey || event.metaKey || event.shiftKey ? choose(item, event.shiftKey) : open(item));
  button.onfocus = () => { active = gallery.items.indexOf(item); retab(); };
  button.draggable = true;
  button.ondragstart = event => event.dataTransfer.setData("application/x-gallery-image", item.id);
  showState(tile);
  return tile;
}
function retab() { for (const tile of tiles.values()) tile.querySelector(".tile").tabIndex = gallery.items[active] === tile.item ? 0 : -1; }
function showState(tile) {
  const { item } = tile, chosen = gallery.chosen.has(item.id);
  tile.classList.toggle("picked", chosen);
  tile.classList.toggle("starred", Boolean(item.starred));
  tile.querySelector(".pick").setAttribute("aria-pressed", String(chosen));
  tile.querySelector(".star").setAttribute("aria-pressed", String(Boolean(item.starred)));
}

function onKey(event) {
  const item = event.target.closest("li")?.item;
  if (!item || event.altKey) return;
  const k = gallery.items.indexOf(item), page = columns * Math.max(1, Math.floor(innerHeight / pitch) - 1);
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -k, End: gallery.items.length - 1 - k, PageUp: -page, PageDown: page };
  if (event.key in moves && !event.ctrlKey) {
    const to = Math.min(gallery.items.length - 1, Math.max(0, k + moves[event.key]));
    if (event.shiftKey) { anchor ??= item.id; range(anchor, gallery.items[to].id); }
    focusTile(to);
  } else if ((event.key === " " || event.key === "x") && event.target.classList.contains("tile")) choose(item, event.shiftKey);
  else if (event.key === "s" && !event.ctrlKey) setStar(gallery.chosen.size ? chosenItems() : [item], !item.starred);
  else if (event.key === "Delete" || event.key === "Backspace") { removeItems(gallery.chosen.size ? chosenItems() : [item]); focusTile(Math.min(k, gallery.items.length - 1)); } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) { for (const one of gallery.items) gallery.chosen.add(one.id); showChosen(); } else if (event.key === "Escape" && gallery.chosen.size) clearChosen();
  else return;
  event.preventDefault(); event.stopPropagation();
}
/** Put the keyboard on a tile, scrolled into sight first. */
function focusTile(k) {
  if (!gallery.items[k]) { $("search").focus(); return; }
  active = k;
  const top = $("wall").getBoundingClientRect().top + Math.floor(k / columns) * pitch;
  if (top < 70) scrollBy(0, top - 70);
  else if (top + pitch > innerHeight - 20) scrollBy(0, top + pitch - innerHeight + 20);
  drawTiles();
  const tile = tiles.get(gallery.items[k].id);
  retab();
  tile?.querySelector(".tile").focus({ preventScroll: true });
}

/* Several at once ------------------------------------------------------------------------------------------- */
export const chosenItems = () => gallery.items.filter(item => gallery.chosen.has(item.id));
function choose(item, extend) {
  if (extend && anchor) { range(anchor, item.id); return; }
  anchor = item.id;
  if (!gallery.chosen.delete(item.id)) gallery.chosen.add(item.id);
  showChosen();
}
function range(from, to) {
  const [a, b] = [from, to].map(id => gallery.items.findIndex(item => item.id === id)).sort((x, y) => x - y);
  for (const item of gallery.items.slice(Math.max(0, a), b + 1)) gallery.chosen.add(item.id);
  showChosen();
}
export function clearChosen() { gallery.chosen.clear(); gallery.choosing = false; anchor = null; showChosen(); }
function showChosen() {
  const number = gallery.chosen.size;
  const on = gallery.choosing || number > 0;
  $("chosen").hidden = !on;
  $("select").setAttribute("aria-pressed", String(on));
  for (const name of ["star", "download", "delete"]) $(`chosen-${name}`).disabled = !number;
  $("chosen-count").textContent = `${number} selected`;
  $("compare-two").hidden = number !== 2;
  $("wall").classList.toggle("choosing", on);
  for (const tile of tiles.values()) showState(tile);
}

export async function setStar(items, starred) {
  for (const item of items) item.starred = starred;
  for (const tile of tiles.values()) showState(tile);
  for (const item of items) {
    try { await call(`/v1/gallery/${item.id}/star`, { method: starred ? "PUT" : "DELETE" }); } catch (error) {
      item.starred = !starred;
      say(error.message, true);
    }
  }
  for (const tile of tiles.values()) showState(tile);
}

/** Take images away at once, and from the server when nobody has taken that back. */
export function removeItems(items) {
  const kept = items.filter(item => !item.removable), gone = items.filter(item => item.removable && item.id);
  if (kept.length) say(`${plural(kept.length, "image")} not written by this server: delete the files in the gallery's folder.`, true);
  if (!gone.length) return;
  const places = gone.map(item => [gallery.items.indexOf(item), item]);
  for (const item of gone) { pending.set(item.id, item); gallery.chosen.delete(item.id); }
  gallery.items = gallery.items.filter(item => !pending.has(item.id));
  remember("deleting", [...pending.keys()]);
  showChosen(); layout();
  const timer = setTimeout(() => finishDeleting(gone), UNDO_SECONDS * 1000);
  toast(`${plural(gone.length, "image")} deleted.`, { text: "Undo", run: () => {
    clearTimeout(timer);
    for (const item of gone) pending.delete(item.id);
    remember("deleting", [...pending.keys()]);
    for (const [k, item] of places) gallery.items.splice(Math.max(0, Math.min(k, gallery.items.length)), 0, item);
    layout(); say("Kept.");
  } }, UNDO_SECONDS);
}
async function finishDeleting(items) {
  for (const item of items) {
    if (!pending.has(item.id)) continue;
    try { await call(`/v1/gallery/${item.id}`, { method: "DELETE" }); } catch (error) {
      if (!/no such image/.test(error.message)) { pending.delete(item.id); say(error.message, true); await refresh(); continue; }
    }
    pending.delete(item.id);
  }
  remember("deleting", [...pending.keys()]);
}
function deleteNow() {
  for (const id of pending.keys()) fetch(`v1/gallery/${id}`, { method: "DELETE", keepalive: true, headers: keyHeaders() });
}

export function download(item) {
  const link = make("a", { href: item.url, download: fileName(item) });
  document.body.append(link); link.click(); link.remove();
}

export async function startGallery(onOpen) {
  open = onOpen;
  let waiting = false;
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; drawTiles(); }); } };
  addEventListener("scroll", later, { passive: true });
  addEventListener("pagehide", deleteNow);
  new ResizeObserver(layout).observe($("wall"));
  new ResizeObserver(later).observe(document.body);
  $("wall").addEventListener("keydown", onKey);
  let timer = 0;
  $("search").oninput = () => { clearTimeout(timer); timer = setTimeout(() => { gallery.words = $("search").value.trim(); refresh().catch(error => say(error.message, true)); }, 200); };
  $("only-starred").onclick = () => {
    gallery.starred = !gallery.starred;
    $("only-starred").setAttribute("aria-pressed", String(gallery.starred));
    refresh().catch(error => say(error.message, true));
  };
  $("select").onclick = () => { if (gallery.choosing || gallery.chosen.size) clearChosen(); else { gallery.choosing = true; showChosen(); } };
  $("chosen-star").onclick = () => { const items = chosenItems(); setStar(items, !items.every(item => item.starred)); };
  $("chosen-delete").onclick = () => removeItems(chosenItems());
  $("chosen-clear").onclick = clearChosen;
  $("chosen-all").onclick = () => { for (const item of gallery.items) gallery.chosen.add(item.id); showChosen(); };
  $("chosen-download").onclick = async () => { for (const item of chosenItems()) { download(item); await new Promise(done => setTimeout(done, 250)); } };
  for (const id of recall("deleting", [])) { // the page went away before its time of undoing had passed
    try { await call(`/v1/gallery/${id}`, { method: "DELETE" }); } catch { /* it was deleted when the page closed */ }
  }
  remember("deleting", []);
  await refresh();
}
