/* Drawing the editor: checkerboard, image, mask, frame, brush. */

const accent = () => getComputedStyle(document.getElementById("go")).backgroundColor;
let board = null;

/** The pattern behind what is transparent. */
function checkerboard(context) {
  if (!board) {
    board = document.createElement("canvas");
    board.width = board.height = 16;
    const inside = board.getContext("2d");
    inside.fillStyle = "#fff"; inside.fillRect(0, 0, 16, 16);
    inside.fillStyle = "#d5d5d5"; inside.fillRect(0, 0, 8, 8); inside.fillRect(8, 8, 8, 8);
  }
  return context.createPattern(board, "repeat");
}

const tinted = document.createElement("canvas");
/** The mask in the colour of the page's accents. */
function tint(mask) {
  if (tinted.width !== mask.width) tinted.width = mask.width;
  if (tinted.height !== mask.height) tinted.height = mask.height;
  const context = tinted.getContext("2d");
  context.globalCompositeOperation = "copy"; context.drawImage(mask, 0, 0);
  context.globalCompositeOperation = "source-in"; context.fillStyle = "#e0218a";
  context.fillRect(0, 0, mask.width, mask.height);
  return tinted;
}

export function drawEditor(canvas, source, edit, [left, top, right, bottom], handles) {
  const ratio = window.devicePixelRatio || 1, [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d"), { scale, x, y } = edit.view;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const box = [x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale];
  context.fillStyle = checkerboard(context);
  context.fillRect(...box);
  context.imageSmoothingEnabled = scale < 4;
  context.drawImage(source.image, x, y, source.width * scale, source.height * scale);
  context.globalAlpha = 0.5;
  context.drawImage(tint(edit.mask), x, y, source.width * scale, source.height * scale);
  context.globalAlpha = 1;
  if (handles || edit.extend.some(Boolean)) frame(context, box, handles, edit.view);
  if (edit.cursor && (edit.tool === "brush" || edit.tool === "erase")) brush(context, edit);
}

function frame(context, [x, y, width, height], handles, view) {
  context.lineWidth = 2; context.strokeStyle = accent(); context.setLineDash([7, 5]);
  context.strokeRect(x, y, width, height);
  context.setLineDash([]);
  for (const [hx, hy] of Object.values(handles ?? {})) {
    context.beginPath(); context.arc(view.x + hx * view.scale, view.y + hy * view.scale, 8, 0, 7);
    context.fillStyle = "#fff"; context.fill(); context.stroke();
  }
}
function brush(context, { cursor, size, view }) {
  const at = [view.x + cursor[0] * view.scale, view.y + cursor[1] * view.scale];
  for (const [style, width] of [["#000", 3], ["#fff", 1.5]]) {
    context.beginPath(); context.arc(...at, Math.max(1, size * view.scale / 2), 0, 7);
    context.strokeStyle = style; context.lineWidth = width; context.stroke();
  }
}
