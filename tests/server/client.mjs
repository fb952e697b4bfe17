// The official client of Node against a server: node client.mjs ADDRESS IMAGE MASK
import fs from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);
const { OpenAI, toFile } = require("openai");
const [address, image, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "any", maxRetries: 0 });
const file = name => fs.createReadStream(name);
const out = {};

const edited = await client.images.edit({
  image: file(image), mask: await toFile(file(mask), "mask.png", { type: "image/png" }),
  prompt: "a red ring", n: 2, size: "auto", seed: 5, strength: 1, extend: [8, 0, 0, 0],
  settings: { base: { steps: 2 } }, stages: 1,
});
out.edit = edited.data.map(one => ({ seed: one.seed, steps: one.record.settings.base.steps, b64_json: one.b64_json }));

const two = await client.images.edit({ image: [file(image), file(image)], prompt: "x", strength: 0, stages: 1 });
out.several = two.data.length;

out.events = [];
const stream = await client.images.edit({
  image: file(image), prompt: "x", stream: true, partial_images: 1, stages: 1, strength: 1,
});
for await (const event of stream) out.events.push(event.type);

const made = await client.images.generate({ prompt: "x", size: "64x64", stages: 1 });
const varied = await client.images.createVariation({
  image: await toFile(Buffer.from(made.data[0].b64_json, "base64"), "a.png"), n: 2, amount: 0.5,
});
out.variations = varied.data.map(one => one.record.variations.length);

try {
  await client.images.edit({ image: file(image), prompt: "x", markup: file(mask) });
} catch (error) {
  out.error = { status: error.status, param: error.param, code: error.code };
}
console.log(JSON.stringify(out));
