/* Small helpers for the page: elements, messages, and values that survive a reload. */

export const $ = id => document.getElementById(id);

/** An element with properties, and what is inside it; `data` and `aria` set attributes. */
export function make(tag, { data = {}, aria = {}, ...values } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), values);
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) {
    if (name === "role") element.setAttribute(name, value);
    else element.setAttribute(`aria-${name}`, value);
  }
  element.append(...inside);
  return element;
}

const ICONS = {
  up: "M8 13V3M4 7l4-4 4 4", down: "M8 3v10M4 9l4 4 4-4", close: "M4 4l8 8M12 4l-8 8",
  again: "M13 8a5 5 0 1 1-1.5-3.5M13 2v3h-3", check: "M3 8.5l3.5 3.5L13 5",
  star: "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5z",
};

export function icon(name) {
  const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon and has a name for those who do not see it. */
export function iconButton(name, label, onclick) {
  const button = make("button", { type: "button", className: "small", title: label, onclick, aria: { label } });
  button.append(icon(name));
  return button;
}

export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

let toastTimer = 0;

/** A message at the edge of the page, perhaps with something to do about it. */
export function toast(text, action = null, seconds = 8) {
  clearTimeout(toastTimer);
  $("toast-text").textContent = text;
  $("toast-act").hidden = !action;
  if (action) {
    $("toast-act").textContent = action.text;
    $("toast-act").onclick = () => { $("toast").hidden = true; action.run(); };
  }
  $("toast").hidden = false;
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, seconds * 1000);
}

export function remember(name, value) {
  try { localStorage.setItem(`studio.${name}`, JSON.stringify(value)); } catch { /* no storage: the page works without */ }
}

export function recall(name, fallback) {
  try { return JSON.parse(localStorage.getItem(`studio.${name}`)) ?? fallback; } catch { return fallback; }
}

export const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), b => b.toString(16).padStart(2, "0")).join("");
export const typing = () => /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName || "") && document.activeElement.type !== "range";

/** A file name for an image. */
export function fileName(item) {
  const words = item.record.prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60);
  return `${String(item.record.seed).padStart(5, "0")}-${words}.${item.kind}`;
}
