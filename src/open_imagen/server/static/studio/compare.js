/* Before and after: two images over each other, and a slider between them. */

import { $ } from "./dom.js";

/** Show an image beside what it was made from; without one the slider is hidden. */
export function showBefore(url) {
  const on = Boolean(url);
  $("before").hidden = $("divider").hidden = $("compare-row").hidden = !on;
  if (on) { $("before").src = url; setDivider(50); } else $("before").removeAttribute("src");
}
export function setDivider(percent) {
  $("divider-range").value = percent;
  $("pan").style.setProperty("--divide", `${percent}%`);
}
export function startCompare() {
  $("divider-range").oninput = event => setDivider(event.target.value);
  $("divider").addEventListener("pointerdown", event => {
    event.stopPropagation(); event.preventDefault();
    $("divider").setPointerCapture(event.pointerId);
    $("divider").onpointermove = move => {
      const box = $("pan").getBoundingClientRect();
      setDivider(Math.min(100, Math.max(0, 100 * (move.clientX - box.left) / box.width)));
    };
  });
  for (const end of ["pointerup", "pointercancel"]) $("divider").addEventListener(end, event => { event.stopPropagation(); $("divider").onpointermove = null; });
}
