/* Prompts: lists, {red|blue} alternatives, and values of a grid. Without the page, so that tests can run it alone. */

export const MAX_PROMPTS = 200;

const MAX_DEPTH = 50;

/** All prompts of a text with alternatives: "a {red|blue} {cat|dog}" are four. "\{" is a brace.
 *  Braces without "|" or without an end are ordinary. The same rules as of `imagen generate`. */
export function alternatives(text) {
  let found = variants(text, choices(text), 0, text.length, 0);
  if (found.length > 1) found = found.map(one => one.split(" ").filter(Boolean).join(" "));
  return [...new Set(found)];
}

const escaped = (text, at) => text[at] === "\\" && at + 1 < text.length && "{|}\\".includes(text[at + 1]);

/** Of each brace that opens alternatives: the places of its "|" and of its end. */
function choices(text) {
  const found = new Map(), opened = [];
  for (let at = 0; at < text.length; at += escaped(text, at) ? 2 : 1) {
    if (text[at] === "{") opened.push([at, []]);
    else if (text[at] === "|" && opened.length) opened.at(-1)[1].push(at);
    else if (text[at] === "}" && opened.length) {
      const [start, bars] = opened.pop();
      if (bars.length) found.set(start, [...bars, at]);
    }
  }
  return found;
}

function variants(text, places, at, end, depth) {
  if (depth > MAX_DEPTH) throw new Error("These alternatives are nested too deeply.");
  let found = [""];
  while (at < end) {
    if (places.has(at)) {
      const bars = places.get(at), starts = [at, ...bars.slice(0, -1)];
      const inside = starts.flatMap((start, k) => variants(text, places, start + 1, bars[k], depth + 1));
      if (found.length * inside.length > 10000) throw new Error(`These alternatives make more than ${MAX_PROMPTS} prompts.`);
      found = found.flatMap(one => inside.map(next => one + next));
      at = bars.at(-1) + 1;
      continue;
    }
    if (escaped(text, at)) at += 1;
    const start = at;
    at += 1;
    while (at < end && !places.has(at) && text[at] !== "\\") at += 1;
    const part = text.slice(start, at);
    found = found.map(one => one + part);
  }
  return found;
}

/** All prompts of the field: each line is one if it is a list. */
export function promptsOf(text, isList) {
  const lines = isList ? text.split("\n").map(line => line.trim()).filter(Boolean) : [text.trim()];
  const prompts = [...new Set(lines.flatMap(alternatives))].filter(Boolean);
  if (prompts.length > MAX_PROMPTS) throw new Error(`These are ${prompts.length} prompts; at most ${MAX_PROMPTS} go into the queue at once.`);
  return prompts;
}

/** Values of a grid's axis: "1, 2, 4", or "1..4", or "1..3 by 0.5". */
export function axisValues(text, isNumber) {
  const values = [];
  for (const part of text.split(",").map(one => one.trim()).filter(Boolean)) {
    const range = isNumber && /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)(?:\s*by\s*([\d.]+))?$/.exec(part);
    if (!range) { values.push(part); continue; }
    const [from, to, by] = [Number(range[1]), Number(range[2]), Number(range[3] ?? 1)];
    if (!(by > 0) || (to - from) / by > 50) throw new Error(`"${part}" is too long for a grid.`);
    for (let k = 0; from + k * by <= to + 1e-9; k += 1) values.push(String(Number((from + k * by).toFixed(6))));
  }
  for (const value of values) if (isNumber && !Number.isFinite(Number(value))) throw new Error(`"${value}" is not a number.`);
  return [...new Set(values)];
}
