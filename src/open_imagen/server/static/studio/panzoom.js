/* Zooming and moving about in an image, with wheel, fingers and keys. */

import { clamp } from "./dom.js";

export class PanZoom {
  /** @param element shows the image  @param size () => [width, height, left, top] of what is shown, in pixels of the image
   *  @param draw called when the view changes */
  constructor(element, size, draw) {
    Object.assign(this, { element, size, draw, scale: 1, x: 0, y: 0, fitted: true, pointers: new Map() });
    element.addEventListener("wheel", event => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(element);
  }

  get fitScale() {
    const [width, height] = this.size();
    return Math.min(this.element.clientWidth / width, this.element.clientHeight / height) || 1;
  }
  fit() {
    const [width, height, left = 0, top = 0] = this.size();
    this.scale = this.fitScale * (this.margin ?? 1);
    this.x = (this.element.clientWidth - width * this.scale) / 2 - left * this.scale;
    this.y = (this.element.clientHeight - height * this.scale) / 2 - top * this.scale;
    this.fitted = true;
    this.draw();
  }
  /** Zoom around a place of the element; its middle without one. */
  zoom(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const scale = clamp(this.scale * factor, this.fitScale / 4, Math.max(32, this.fitScale * 8));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale; this.fitted = false;
    this.keepInside(); this.draw();
  }
  move(x, y) { this.x += x; this.y += y; this.fitted = false; this.keepInside(); this.draw(); }
  keepInside() {
    const [width, height, left = 0, top = 0] = this.size(), edge = 40;
    this.x = clamp(this.x, edge - (left + width) * this.scale, this.element.clientWidth - edge - left * this.scale);
    this.y = clamp(this.y, edge - (top + height) * this.scale, this.element.clientHeight - edge - top * this.scale);
  }
  /** A place of the page in pixels of the image. */
  place(event) {
    const box = this.element.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  /* Two fingers zoom and move; tell which pointers there are. */
  down(event) { this.pointers.set(event.pointerId, [event.clientX, event.clientY]); return this.pointers.size; }
  up(event) { this.pointers.delete(event.pointerId); }
  /** Follow a pointer; true if it belongs to a gesture of two. */
  pinch(event) {
    if (!this.pointers.has(event.pointerId)) return false;
    const before = [...this.pointers.values()].map(([x, y]) => [x, y]);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (before.length !== 2) return false;
    const after = [...this.pointers.values()], box = this.element.getBoundingClientRect();
    const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    const [from, to] = [middle(before), middle(after)];
    this.move(to[0] - from[0], to[1] - from[1]);
    this.zoom(apart(after) / apart(before), to[0] - box.left, to[1] - box.top);
    return true;
  }
}
