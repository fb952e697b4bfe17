/* Jobs and the originals of edits, in IndexedDB; in memory where a browser has none (private windows). */

let database = null;
const memory = { jobs: new Map(), originals: new Map() };

function open() {
  database ??= new Promise(resolve => {
    try {
      const asked = indexedDB.open("open-imagen-studio", 1);
      asked.onupgradeneeded = () => { for (const name of Object.keys(memory)) asked.result.createObjectStore(name); };
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => resolve(null);
    } catch { resolve(null); }
  });
  return database;
}

async function ask(store, mode, question) {
  const base = await open();
  return new Promise((resolve, reject) => {
    const transaction = base.transaction(store, mode), asked = question(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

export async function put(store, key, value) {
  if (!await open()) { memory[store].set(key, value); return; }
  await ask(store, "readwrite", s => s.put(value, key));
}
export async function get(store, key) {
  return await open() ? ask(store, "readonly", s => s.get(key)) : memory[store].get(key);
}
export async function all(store) {
  return await open() ? ask(store, "readonly", s => s.getAll()) : [...memory[store].values()];
}
export async function remove(store, key) {
  if (!await open()) { memory[store].delete(key); return; }
  await ask(store, "readwrite", s => s.delete(key));
}

const MAX_ORIGINALS = 200;

/** Keep what an image was made from, for the slider of before and after; the oldest go first. */
export async function keepOriginal(id, original) {
  await put("originals", id, { ...original, time: Date.now() });
  if (!await open()) return;
  const keys = await ask("originals", "readonly", s => s.getAllKeys());
  if (keys.length <= MAX_ORIGINALS) return;
  const dated = await Promise.all(keys.map(async key => [(await get("originals", key))?.time || 0, key]));
  for (const [, key] of dated.sort((a, b) => a[0] - b[0]).slice(0, keys.length - MAX_ORIGINALS)) await remove("originals", key);
}
