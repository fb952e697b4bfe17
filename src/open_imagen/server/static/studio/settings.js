/* The form: the model, sizes, and everything that a stage can be sampled with. */

import { $, make, recall, remember } from "./dom.js";

export let models = [];
export const model = () => models.find(m => m.id === $("model").value) || models[0];
/* The served model that made an image: its name may be another one here, its hash is the same. */
export const modelOf = record => models.find(m => m.hash === record.model_hash) || models.find(m => m.id === record.model);

const SAMPLERS = ["ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "heun", "heun_sde"];
/* Settings of a stage: name -> [label, values or [min, max, step], "more" if it is rarely needed]. */
export const FIELDS = {
  steps: ["Steps", [1, 1000, 1]],
  guidance: ["Guidance", [0, 100, "any"]],
  sampler: ["Sampler", SAMPLERS],
  noise_level: ["Noise level", [0, 1, "any"]],
  adapter: ["Adapter", []],
  threshold: ["Threshold", ["dynamic", "static", "none"], "more"],
  percentile: ["Threshold percentile", [0, 100, "any"], "more"],
  threshold_cap: ["Threshold at most", [1, 1000, "any"], "more"],
  guidance_kind: ["Guidance kind", ["cfg", "apg", "cfg_zero"], "more"],
  guidance_low: ["Guide from log-SNR", [-30, 30, "any"], "more"],
  guidance_high: ["Guide below log-SNR", [-30, 30, "any"], "more"],
  guidance_steps: ["Guide every 2nd step after", [0, 1000, "any"], "more"],
  guidance_rescale: ["Guidance rescale", [0, 1, "any"], "more"],
  apg_momentum: ["APG momentum", [-1, 1, "any"], "more"],
  apg_norm: ["APG norm", [0, 1000, "any"], "more"],
  apg_parallel: ["APG parallel share", [0, 1, "any"], "more"],
  zero_init_steps: ["CFG-Zero* first steps", [0, 1000, 1], "more"],
  gamma: ["DDPM variance (gamma)", [0, 1, "any"], "more"],
  churn: ["Heun churn", [0, 100, "any"], "more"],
  sde_from_logsnr: ["UniPC noise from log-SNR", [-30, 30, "any"], "more"],
  spacing: ["Spacing", ["trailing", "power", "leading", "linspace", "logsnr"], "more"],
  logsnr_start: ["Start at log-SNR", [-30, 30, "any"], "more"],
  timesteps: ["Timesteps", "list", "more"],
  color_correction: ["Colour correction (sigma)", [0, 100, "any"], "more"],
};

/** What a stage does without being told. */
const usualOf = (stage, name) => stage.resolved?.[name] ?? stage.defaults[name];

function field(stage, name) {
  const [label, kind] = FIELDS[name], id = `${stage.name}-${name}`, usual = usualOf(stage, name);
  let input;
  if (name === "adapter" || (Array.isArray(kind) && typeof kind[0] === "string")) {
    const values = name === "adapter" ? ["none", ...stage.adapters] : kind;
    input = make("select", { id }, make("option", { value: "", textContent: usual === undefined ? "default" : `${usual} (default)` }),
      ...values.map(value => make("option", { value, textContent: value })));
  } else if (kind === "list") {
    input = make("input", { id, inputMode: "numeric", pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*", title: "Whole numbers with commas, from late to early", placeholder: usual?.length ? usual.join(", ") : "999, 750, 500, 250, 0" });
  } else {
    const [min, max, step] = kind;
    input = make("input", { id, type: "number", min, max, step, placeholder: usual ?? "default" });
  }
  return make("div", {}, make("label", { htmlFor: id, textContent: label }), input);
}

/** Build what depends on the model. */
export function showModel() {
  const { stages, default_stages: usual, adapters = [] } = model();
  $("size").replaceChildren(...sizes(stages, usual), make("option", { value: "custom", textContent: "Other …" }));
  $("size").value = String(usual);
  $("stages").replaceChildren(...stages.map((stage, k) => {
    const names = Object.keys(FIELDS).filter(name => (name === "adapter" ? stage.adapters?.length : k || !["noise_level", "color_correction"].includes(name)));
    const part = more => make("div", { className: "two" }, ...names.filter(name => Boolean(FIELDS[name][2]) === more).map(name => field(stage, name)));
    return make("fieldset", {}, make("legend", { textContent: `${stage.name}, ${stage.resolution} pixels` }), part(false),
      make("details", { className: "inner" }, make("summary", { textContent: "All settings" }), part(true)));
  }));
  $("adapters").hidden = !adapters.length;
  $("adapter-list").replaceChildren(...adapters.map(({ name, stage }) => {
    const id = `adapter-${name}`, input = make("input", { id, type: "number", min: -4, max: 4, step: "any", placeholder: "0", data: { adapter: name } });
    return make("div", {}, make("label", { htmlFor: id, textContent: stage ? `${name} (${stage})` : name }), input);
  }));
  showCustom();
  showAxes();
}

function sizes(stages, usual) {
  const option = (value, width, height) => make("option", { value, textContent: `${width} × ${height}` });
  const square = stages.map((s, k) => option(k + 1, s.resolution, s.resolution));
  const shaped = stages.map((s, k) => [s, k]).filter(([s, k]) => s.resolution >= 128 && k + 1 >= Math.min(usual, stages.length));
  const group = (label, shapes) => make("optgroup", { label }, ...shaped.flatMap(([s, k]) => shapes.map(([w, h]) => {
    const [width, height] = [w, h].map(ratio => Math.round(ratio * s.resolution / 64) * 64);
    return option(`${k + 1}:${width}x${height}`, width, height);
  })));
  return [make("optgroup", { label: "Square" }, ...square), ...(shaped.length ? [group("Wide", [[3 / 2, 1], [2, 1]]), group("Tall", [[1, 3 / 2], [1, 2]])] : [])];
}

export function showCustom() { $("custom-size").hidden = $("size").value !== "custom"; }

/** Settings over which a grid can go. */
function showAxes() {
  const options = () => [make("option", { value: "", textContent: "nothing" }), make("option", { value: "seed", textContent: "Seed" }),
    make("option", { value: "strength", textContent: "Strength (of an edit)" }),
    ...model().stages.map((stage, k) => make("optgroup", { label: stage.name },
      ...Object.keys(FIELDS).filter(name => name !== "timesteps" && (k || !["noise_level", "color_correction"].includes(name)) && (name !== "adapter" || stage.adapters?.length))
        .map(name => make("option", { value: `${stage.name}.${name}`, textContent: `${stage.name}: ${FIELDS[name][0]}` }))))];
  for (const id of ["columns", "rows"]) $(id).replaceChildren(...options());
}

export const isNumeric = axis => {
  const kind = FIELDS[axis.split(".")[1]]?.[1];
  return axis === "seed" || axis === "strength" || (Array.isArray(kind) && typeof kind[0] === "number");
};
export const axisName = axis => (axis.includes(".") ? `${axis.split(".")[0]} ${FIELDS[axis.split(".")[1]][0].toLowerCase()}` : axis);
export const settingValue = (name, text) => {
  const kind = FIELDS[name][1];
  if (kind === "list") return text.split(",").map(Number);
  return typeof kind[0] === "number" ? Number(text) : text;
};

/** What the form says of each stage that runs. */
export function stageSettings(number) {
  const found = {};
  for (const stage of model().stages.slice(0, number)) {
    const own = {};
    for (const name of Object.keys(FIELDS)) {
      const value = $(`${stage.name}-${name}`)?.value;
      if (value) own[name] = settingValue(name, value);
    }
    if (Object.keys(own).length) found[stage.name] = own;
  }
  return found;
}

/** The fields of a request that the form sets, without prompt and seed. */
export function formBody({ edit = false } = {}) {
  const body = { model: model().id }, size = $("size").value;
  if (edit || size === "custom") body.settings = stageSettings(size.includes(":") || size === "custom" ? undefined : Number(size));
  else body.settings = stageSettings(Number(size.split(":")[0]));
  if (size === "custom") { if (!edit) body.size = `${$("width").value}x${$("height").value}`; } else {
    body.stages = Number(size.split(":")[0]);
    if (!edit && size.includes(":")) body.size = size.split(":")[1];
  }
  if ($("negative").value) body.negative_prompt = $("negative").value;
  if ($("format").value !== "png") body.output_format = $("format").value;
  if ($("quality").value && $("format").value !== "png") body.output_compression = Number($("quality").value);
  if ($("background").value) body.background = $("background").value;
  if ($("weights").checked) body.prompt_weights = true;
  const adapters = {};
  for (const input of $("adapter-list").querySelectorAll("input")) if (input.value) adapters[input.dataset.adapter] = Number(input.value);
  if (Object.keys(adapters).length) body.adapters = adapters;
  return body;
}

/** The adapters of an image as this server names them: records have the folder that they came from. */
export const adaptersOf = record => Object.fromEntries((record.adapters || []).map(one => [one.name ?? one.path.split(/[/\\]/).at(-1), one.weight]));

export function clearSettings() {
  for (const e of $("more").querySelectorAll("#stages input, #stages select, #adapters input")) e.value = "";
  for (const id of ["quality", "negative"]) $(id).value = "";
  $("format").value = "png"; $("background").value = ""; $("weights").checked = false;
}

/** Take all settings of an image over; true if its model is served here. */
export function useRecord(record) {
  const known = modelOf(record);
  if (known) $("model").value = known.id;
  showModel(); clearSettings();
  $("prompt").value = record.prompt;
  $("list").checked = false;
  $("negative").value = record.negative || "";
  $("weights").checked = Boolean(record.prompt_weights);
  $("background").value = record.background === "transparent" ? "transparent" : "";
  const names = Object.keys(record.settings), number = model().stages.findIndex(s => s.name === names.at(-1)) + 1;
  const { size } = record, square = number && model().stages[number - 1].resolution;
  const wanted = size === `${square}x${square}` ? String(number) : `${number}:${size}`;
  const options = [...$("size").options].map(option => option.value);
  if (options.includes(wanted)) $("size").value = wanted;
  else { $("size").value = "custom"; [$("width").value, $("height").value] = size.split("x"); }
  for (const stage of model().stages) for (const [name, value] of Object.entries(record.settings[stage.name] || {})) {
    const input = $(`${stage.name}-${name}`), text = String(value ?? "");
    if (input && text !== String(usualOf(stage, name) ?? "")) input.value = Array.isArray(value) ? value.join(", ") : text;
  }
  for (const [name, weight] of Object.entries(adaptersOf(record))) { const input = $(`adapter-${name}`); if (input) input.value = weight; }
  $("more").open ||= [...$("stages").querySelectorAll("input, select")].some(input => input.value);
  $("seed").value = record.seed; lock(true); showCustom(); keepForm();
  return Boolean(known);
}

export function lock(on) { $("lock").setAttribute("aria-pressed", String(on)); }
export const locked = () => $("lock").getAttribute("aria-pressed") === "true";

const fields = () => [...$("form").querySelectorAll("input[id], textarea[id], select[id]")];
/** Write down the form, so that a reload finds it again. */
export function keepForm() {
  const values = Object.fromEntries(fields().map(e => [e.id, e.type === "checkbox" ? e.checked : e.value]).filter(([, v]) => v !== ""));
  remember("form", { values, locked: locked(), more: $("more").open });
}

export function setModels(served) {
  models = served.filter(m => !m.alias_of);
  $("model").replaceChildren(...models.map(m => make("option", { value: m.id, textContent: m.id })));
  $("modelrow").hidden = models.length < 2;
  const kept = recall("form", null);
  if (models.some(m => m.id === kept?.values.model)) $("model").value = kept.values.model;
  showModel();
  if (!kept) return;
  for (const e of fields()) {
    const value = kept.values[e.id];
    if (value === undefined || e.id === "model") continue;
    if (e.type === "checkbox") e.checked = value;
    else if (e.tagName !== "SELECT" || [...e.options].some(option => option.value === value)) e.value = value;
  }
  lock(kept.locked); $("more").open = kept.more; showCustom();
}

/** The first wrong value of the form is shown, also in closed settings; true if there is none. */
export function checkForm() {
  const wrong = fields().find(e => !e.closest("[hidden]") && !e.checkValidity());
  if (!wrong) return null;
  for (let at = wrong.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  wrong.focus();
  const name = wrong.labels?.[0]?.textContent || wrong.id;
  const stage = wrong.closest("fieldset")?.querySelector("legend")?.textContent.split(",")[0];
  return `${stage ? `${stage}: ` : ""}${name}: ${wrong.validationMessage}`;
}
