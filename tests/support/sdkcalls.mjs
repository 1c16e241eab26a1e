// SPDX-License-Identifier: Apache-2.0
// What an application does with Ollama's JavaScript client: node sdkcalls.mjs URL FOLDER
import { createRequire } from "node:module";
const [url, folder] = process.argv.slice(2);
const { Ollama } = createRequire(folder + "/x.js")("ollama");
const client = new Ollama({ host: url });
const model = "llama3.2", prompt = "say [[n=3 ttft=0.01 tps=200]]";
const messages = [{ role: "user", content: prompt }];
const got = [(await client.generate({ model, prompt })).response];
const parts = [];
for await (const part of await client.chat({ model, messages, stream: true })) parts.push(part.message.content);
got.push(parts, (await client.embed({ model: "nomic-embed-text", input: ["a"] })).embeddings.length);
got.push((await client.list()).models.length);
try { await client.generate({ model: "absent", prompt }); } catch (error) { got.push(error.status_code); }
const long = await client.generate({ model, prompt: "say [[n=500 tps=100]]", stream: true });
for await (const part of long) { got.push(part.response); long.abort(); break; }
console.log(JSON.stringify(got));
