/* The record inside an image of ours, read in the browser. */

import { parse } from "./api.js";

/** How a PNG, JPEG or WebP of ours was made; null of any other file. */
export async function readRecord(file) {
  const data = new Uint8Array(await file.arrayBuffer());
  try {
    const text = pngText(data) ?? jpegText(data) ?? webpText(data), record = text && parse(text);
    return record && typeof record.prompt === "string" && record.settings && /^\d+$/.test(record.seed) ? record : null;
  } catch { return null; }
}

const utf8 = bytes => new TextDecoder().decode(bytes);
const ascii = (data, at, length) => String.fromCharCode(...data.subarray(at, at + length));

function pngText(data) {
  if (ascii(data, 1, 3) !== "PNG") return null;
  const view = new DataView(data.buffer);
  for (let at = 8; at + 12 <= data.length;) {
    const length = view.getUint32(at), kind = ascii(data, at + 4, 4), body = data.subarray(at + 8, at + 8 + length);
    if (kind === "iTXt" && ascii(body, 0, 12) === "open_imagen\0" && !body[12]) {
      const language = body.indexOf(0, 14), keyword = body.indexOf(0, language + 1);
      return utf8(body.subarray(keyword + 1));
    }
    if (kind === "tEXt" && ascii(body, 0, 12) === "open_imagen\0") return utf8(body.subarray(12));
    at += 12 + length;
  }
  return null;
}

function jpegText(data) {
  if (data[0] !== 0xff || data[1] !== 0xd8) return null;
  const mark = "open_imagen record ", parts = [];
  for (let at = 2; at + 4 <= data.length && data[at] === 0xff && data[at + 1] !== 0xda;) {
    const length = data[at + 2] * 256 + data[at + 3];
    if (data[at + 1] === 0xfe && ascii(data, at + 4, mark.length) === mark) parts.push(...data.subarray(at + 4 + mark.length, at + 2 + length));
    at += 2 + length;
  }
  return parts.length ? utf8(Uint8Array.from(parts)) : null;
}

function webpText(data) {
  if (ascii(data, 8, 4) !== "WEBP") return null;
  const found = /open_imagen:record="([^"]*)"/.exec(utf8(data));
  return found && new DOMParser().parseFromString(found[1], "text/html").documentElement.textContent;
}
