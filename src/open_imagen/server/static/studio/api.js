/* Calls of the server: keys, errors in plain words, event streams, and seeds of more than 53 bits. */

import { $, say } from "./dom.js";

/** An error that may pass by itself: the server is away, full or stopping. */
export class Later extends Error {
  constructor(message, seconds) { super(message); this.seconds = seconds; }
}
export class NoKey extends Error {}

/* JavaScript's numbers end at 2^53, seeds at 2^62: on this side of the wire a seed is text. */
export const parse = text => JSON.parse(text.replace(/(?<!\\)"seed":\s*(\d+)/g, '"seed":"$1"'));
export const write = value => JSON.stringify(value).replace(/(?<!\\)"seed":"(\d+)"/g, '"seed":$1');
export const seedPlus = (seed, k) => String(BigInt(seed) + BigInt(k));
export const anySeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

const storedKey = () => { try { return sessionStorage.getItem("key"); } catch { return storedKey.kept; } };
function keepKey(key) { storedKey.kept = key; try { sessionStorage.setItem("key", key); } catch { /* for this page only */ } }
export const keyHeaders = () => (storedKey() ? { Authorization: `Bearer ${storedKey()}` } : {});

export async function call(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...keyHeaders() };
  let answer;
  try {
    answer = await fetch(path.replace(/^\//, ""), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Later("The server cannot be reached. Is it still running?", 5);
  }
  if (answer.status === 401) { await askKey(Boolean(storedKey())); return call(path, options); }
  if (answer.ok) return answer;
  let message = `The server answered ${answer.status}.`;
  try { message = (await answer.json()).error.message; } catch { /* no error object */ }
  const seconds = Number(answer.headers.get("retry-after"));
  if ((answer.status === 429 || answer.status === 503) && seconds) throw new Later(message, Math.min(seconds, 60));
  throw new Error(message);
}
export const json = async (path, options) => parse(await (await call(path, options)).text());

let asking = null;

/** Ask for the API key once, however many requests wait for it. */
function askKey(wrong) {
  asking ??= new Promise((done, failed) => {
    const dialog = $("ask"), input = $("key"), warn = text => { $("key-error").textContent = text; input.setAttribute("aria-invalid", String(Boolean(text))); };
    warn(wrong ? "The server does not know this key. Check it for a missing or a changed letter." : "");
    input.value = "";
    $("ask-form").onsubmit = event => {
      event.preventDefault();
      const key = input.value.trim();
      if (!key) return warn("Paste the key that you were given.");
      if (!/^[\x21-\x7e]+$/.test(key)) return warn("A key has only Latin letters, digits and signs; is the keyboard set to another script?");
      keepKey(key);
      dialog.close("key");
    };
    dialog.onclose = () => {
      asking = null;
      if (dialog.returnValue === "key") { dialog.returnValue = ""; done(); return; }
      say("This server needs an API key.", true);
      $("give-key").hidden = false;
      failed(new NoKey("This server needs an API key."));
    };
    $("give-key").hidden = true;
    dialog.showModal();
    input.focus();
  });
  return asking;
}

/** The events of a stream, as they arrive. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try { part = await reader.read(); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Later("The connection to the server was lost.", 3);
    }
    if (part.done) return;
    rest += part.value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) for (const line of event.split("\n")) if (line.startsWith("data: ")) yield parse(line.slice(6));
  }
}

/** Where the file of an image is, and its small copy. */
export const fileUrl = (id, kind) => new URL(`v1/images/files/${id}.${kind}`, document.baseURI).pathname;
export const thumbnailUrl = item => (item.id ? new URL(`v1/images/files/${item.id}.${item.kind}/thumbnail`, document.baseURI).pathname : item.url);
export const asItem = reply => {
  const kind = reply.url.split(".").at(-1);
  return { ...reply, kind, url: fileUrl(reply.id, kind) };
};
