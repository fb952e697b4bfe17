/* Prompts: lists, {red|blue} alternatives, and values of a grid. Without the page, so that tests can run it alone. */

export const MAX_PROMPTS = 200;

/** All prompts of a text with alternatives: "a {red|blue} {cat|dog}" are four. "\{" is a brace.
 *  The same rules as of `imagen generate`. */
export function alternatives(text) {
  const [found] = sequence(text, 0, false);
  return [...new Set(found.map(one => one.trim().replace(/ {2,}/g, found.length > 1 ? " " : "$&")))];
}

/** The variants of a text from a place on; inside braces up to "|" or "}". */
function sequence(text, at, inside) {
  let variants = [""];
  const add = part => { variants = variants.map(one => one + part); };
  while (at < text.length) {
    const sign = text[at];
    if (sign === "\\" && "{|}\\".includes(text[at + 1] ?? " ")) { add(text[at + 1]); at += 2; continue; }
    if (inside && (sign === "|" || sign === "}")) break;
    if (sign === "{") {
      const choice = choices(text, at + 1);
      if (choice) {
        const [found, end] = choice;
        variants = variants.flatMap(one => found.map(next => one + next));
        if (variants.length > 100 * MAX_PROMPTS) throw new Error(`These alternatives make more than ${MAX_PROMPTS} prompts.`);
        at = end;
        continue;
      }
    }
    add(sign);
    at += 1;
  }
  return [variants, at];
}

/** What stands between braces, and where they end; null where these are no alternatives. */
function choices(text, at) {
  const found = [];
  for (let options = 1; ; options += 1) {
    const [variants, end] = sequence(text, at, true);
    found.push(...variants);
    if (end >= text.length) return null;
    if (text[end] === "}") return options > 1 ? [found, end + 1] : null;
    at = end + 1;
  }
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
