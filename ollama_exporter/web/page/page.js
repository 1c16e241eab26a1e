// SPDX-License-Identifier: Apache-2.0
// The live page. It gets the whole status once and then, by one stream, only what changes.
// Everything is drawn as elements and text: a name never becomes HTML.

const SPANS = [[600, "10 min"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"]];
const MOST = { events: 5000, stays: 5000, requests: 500, minutes: 6000, outages: 500 };
const SHOWN = 12; // events and waits before "Show all"
const SILENCE = 25; // seconds: the exporter says something every 10
const LEAVING = 4; // seconds after a deadline in which the next poll will show the end
const RETRY = [1, 2, 4, 8]; // seconds between two attempts to connect

const TARGET = new URLSearchParams(location.search).get("target"); // one of several servers
const query = (fields) => new URLSearchParams(TARGET === null ? fields : { ...fields, target: TARGET });

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// -- elements ------------------------------------------------------------------------------------

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const soft = (...text) => h("span", { class: "soft" }, text);
const named = (name) => h("bdi", { class: "name" }, name);

// -- times and sizes in words ------------------------------------------------------------------------

const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const wall = (moment) => new Date((moment + (state.status?.skew ?? 0)) * 1000);

function when(moment) {
  const date = wall(moment), utc = date.toISOString();
  const text = (Math.abs(clock() - moment) > 43200 ? DATE : CLOCK).format(date);
  return h("time", { class: "num", datetime: utc, title: `${utc.slice(0, 19).replace("T", " ")} UTC` }, text);
}

function lasting(seconds) {
  if (seconds < 0.95) return `${seconds.toFixed(2)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  if (whole < 60) return `${whole} s`;
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

function roughly(seconds) { // of a time that grows while one looks
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  return lasting(Math.floor(seconds / 60) * 60);
}

function countdown(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const parts = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}

const keepAlive = (seconds) => (seconds < 0 ? "forever" : seconds === 0 ? "0" : lasting(seconds));
const gigabytes = (bytes) => (bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(0)} MB`);
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)} %`;

// -- what is known -----------------------------------------------------------------------------------

const state = { boot: null, number: -1, span: 3600, status: null, offset: null, cutAt: null, all: new Set() };
const past = Object.fromEntries(Object.keys(MOST).map((kind) => [kind, new Map()]));
const clock = () => performance.now() / 1000 + (state.offset ?? Date.now() / 1000 - performance.now() / 1000);

function setClock(now) { // a message is never early, so the latest estimate is the best one
  const offset = now - performance.now() / 1000;
  if (state.offset === null || offset > state.offset || state.offset - offset > 1) state.offset = offset;
}

function take(records) {
  for (const [kind, list] of Object.entries(records ?? {})) {
    const known = past[kind];
    if (!known) continue;
    for (const record of list) known.set(record.id, record);
    const begin = clock() - state.span * 1.05;
    for (const [id, record] of known) {
      const end = record.at ?? record.end ?? Infinity;
      if (known.size > MOST[kind] || end < begin - 60) known.delete(id);
      else if (kind !== "stays") break;
    }
  }
}

function takeAll(document) {
  setClock(document.now);
  Object.assign(state, { boot: document.boot, number: document.number, span: document.span, status: document.status });
  for (const known of Object.values(past)) known.clear();
  take(document.past);
}

function change(message) {
  setClock(message.now);
  if (message.number !== state.number + 1) return ask();
  state.number = message.number;
  const { models = [], gone = [], ...rest } = message.status ?? {};
  const kept = state.status.models.filter((model) => !gone.includes(model.name) && !models.some((x) => x.name === model.name));
  state.status = { ...state.status, ...rest };
  state.status.models = [...kept, ...models].sort((a, b) => (a.name < b.name ? -1 : 1));
  take(message.past);
  const events = (message.past?.events ?? []).filter((event) => event.kind !== "found");
  if (events.length) $("said").textContent = events.slice(-3).map(inWords).join(". ");
  draw();
}

// -- the stream ----------------------------------------------------------------------------------------

let stream = null, attempts = 0, retry = null, heard = 0, asking = null;

async function ask() {
  if (asking) return;
  asking = fetch(`api/v1/status?${query({ seconds: state.span })}`, { cache: "no-store" });
  try {
    const answer = await asking;
    if (!answer.ok) throw new Error(answer.status);
    takeAll(await answer.json());
    draw();
  } catch {
    cut();
  } finally {
    asking = null;
  }
}

function connect() {
  clearTimeout(retry);
  stream?.close();
  stream = new EventSource(`events?${query({})}`);
  const on = (kind, work) => stream.addEventListener(kind, (event) => {
    heard = performance.now();
    attempts = 0;
    work(JSON.parse(event.data));
  });
  on("hello", (hello) => {
    joined();
    setClock(hello.now);
    if (hello.boot !== state.boot || hello.number !== state.number) ask();
  });
  on("change", change);
  on("beat", (beat) => {
    setClock(beat.now);
    if (beat.number !== state.number) ask();
  });
  stream.onerror = cut;
  heard = performance.now();
}

function cut() { // a browser gives up on some errors, so all attempts are ours
  stream?.close();
  stream = null;
  if (document.hidden) return;
  if (state.cutAt === null) state.cutAt = clock();
  document.documentElement.classList.add("cut");
  const since = CLOCK.format(wall(state.cutAt));
  $("link").textContent = `Disconnected since ${since}: showing the last known state. Retrying…`;
  clearTimeout(retry);
  retry = setTimeout(connect, 1000 * RETRY[Math.min(attempts++, RETRY.length - 1)]);
}

function joined() {
  state.cutAt = null;
  document.documentElement.classList.remove("cut");
  $("link").textContent = "Live";
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { // a page that nobody sees costs the exporter nothing
    stream?.close();
    stream = null;
    clearTimeout(retry);
  } else {
    connect();
    draw();
  }
});

// -- sentences -----------------------------------------------------------------------------------------

const inWords = (event) => (event.kind === "unloaded" ? `${event.model} unloaded: ${event.text}` : `${event.model || "Server"}: ${event.text}`);

function until(model) { // [text, explanation]
  const left = model.deadline === undefined || model.deadline === null ? null : model.deadline - clock();
  if (!model.resident) return ["loading", model.loading_since ? `for ${roughly(clock() - model.loading_since)}` : ""];
  if (model.dead) return ["dead", "its process is gone, but the server still lists it"];
  if (model.requests || model.slots_busy) return ["in use", model.pinned ? "then forever" : after(model)];
  if (model.pinned) return ["never", "its keep-alive is -1"];
  if (left === null) return ["unknown", ""];
  if (left > 0) return [countdown(left), "left of its keep-alive"];
  return left > -LEAVING && !model.busy ? ["leaving", "its keep-alive has run out"] : ["in use", after(model)];
}
const after = (model) => (model.keep_alive >= 0 && model.keep_alive !== null ? `then ${keepAlive(model.keep_alive)} more` : "a request runs");

function nextToLeave() {
  const idle = state.status.models.filter((m) => m.resident && !m.pinned && !m.requests && !m.slots_busy && m.deadline > clock() - LEAVING);
  return idle.sort((a, b) => a.deadline - b.deadline)[0];
}

const byRank = () => state.status.models.filter((m) => m.rank).sort((a, b) => a.rank - b.rank);
const eventsNewestFirst = () => [...past.events.values()].sort((a, b) => b.at - a.at || b.id - a.id);

// -- sections: each is drawn anew only if what it shows has changed --------------------------------------

const sections = {}, ticking = []; // ticking: what to write anew each second

function section(id, title, ...classes) {
  const body = h("div"), element = h("section", { id, class: classes.join(" "), "aria-labelledby": `${id}-title` }, title && h("h2", { id: `${id}-title` }, title), body);
  sections[id] = { body, key: null };
  return element;
}

function show(id, key, make) {
  const text = JSON.stringify(key), target = sections[id];
  if (target.key === text) return;
  target.key = text;
  const open = [...target.body.querySelectorAll("details[open]")].map((each) => each.dataset.id);
  const active = document.activeElement?.dataset?.id;
  target.body.replaceChildren(...[make()].flat().filter(Boolean));
  for (const each of target.body.querySelectorAll("[data-id]")) {
    if (open.includes(each.dataset.id)) each.open = true;
    if (active && each.dataset.id === active && each.tagName !== "DETAILS") each.focus({ preventScroll: true });
  }
}

function ticks(element, write) { // an element whose text changes with time
  ticking.push([new WeakRef(element), write]);
  element.textContent = write();
  return element;
}

function answers() {
  const next = nextToLeave(), first = byRank()[0], resident = state.status.models.filter((m) => m.resident);
  const last = eventsNewestFirst().find((event) => event.kind === "unloaded");
  const going = [...past.stays.values()].filter((stay) => stay.end && !stay.why && !stay.dead).sort((a, b) => b.end - a.end)[0];
  const waiting = state.status.waiting;
  const loading = state.status.models.filter((m) => !m.resident);
  show("next", [next, first, resident.length, loading.map((m) => m.name)], () => [
    next ? h("p", { class: "big" }, named(next.name), " in ", ticks(h("span", { class: "num" }), () => countdown(next.deadline - clock())))
      : h("p", { class: "big" }, resident.length ? "Nothing is due" : "Nothing is in memory"),
    next ? h("p", { class: "soft" }, "when its keep-alive runs out, unless it is used again")
      : resident.length ? h("p", { class: "soft" }, "every model is in use or stays forever") : null,
    loading.length ? h("p", {}, loading.map((m, i) => [i ? ", " : "", named(m.name)]), loading.length === 1 ? " is loading." : " are loading.") : null,
    first && resident.length > 1 ? h("p", {}, "If another model needs memory, ", named(first.name), resident.every((m) => m.rank_known) ? " is evicted first." : " is evicted first, as far as keep-alives are known.") : null,
  ]);
  const unexplained = going && (!last || going.end > last.at) ? going : null;
  show("last", [last, unexplained], () => unexplained ? [
    h("p", { class: "big" }, named(unexplained.model)),
    h("p", {}, when(unexplained.end), ": just unloaded, reason not known yet."),
    last ? h("p", { class: "soft" }, "Before it, ", named(last.model), ": ", last.text) : null,
  ] : last ? [
    h("p", { class: "big" }, named(last.model), ": ", last.text),
    h("p", { class: "soft" }, "at ", when(last.at), ", ", ticks(h("span"), () => `${roughly(clock() - last.at)} ago`)),
    last.evidence?.length ? h("p", {}, `because ${last.evidence[0]}`) : null,
  ] : [h("p", { class: "big" }, "Nothing was unloaded"), h("p", { class: "soft" }, `within ${spanName()}`)]);
  const proxy = state.status.sources.some((source) => source.name === "Requests" && source.on);
  show("queue", [waiting, proxy], () => waiting.length ? [
    h("p", { class: "big" }, count(waiting.length, "request"), waiting.length === 1 ? " waits" : " wait"),
    h("ul", { class: "list" }, waiting.slice(0, 4).map((each) => h("li", {}, "for ", named(each.model), " ",
      ticks(h("span", { class: "num" }), () => `since ${roughly(clock() - each.since)}`)))),
  ] : [h("p", { class: "big" }, proxy ? "No request waits" : "Not seen"),
    h("p", { class: "soft" }, proxy ? "for a model to load" : "only the proxy sees waiting requests")]);
}

const ORDER = ["first", "second", "third"];

function memory() {
  const { models, memory: room, server } = state.status;
  const resident = byRank();
  show("now", [models, room, server.up], () => {
    if (!server.up) return [h("p", {}, "The server does not answer: what is in memory is not known.")];
    if (!models.length) return [h("p", {}, "No model is in memory.")];
    const most = Math.max(room.most, room.used, 1);
    const vram = resident.reduce((sum, model) => sum + (model.size_vram ?? model.size), 0);
    const held = room.used ? `${gigabytes(room.used)} in memory, ${percent(vram / room.used)} of it on the GPU. ` : "Nothing is in memory. ";
    const text = held + `The most at one time was ${gigabytes(room.most)}. `
      + resident.map((model) => `${model.name} ${gigabytes(model.size)}`).join(", ");
    let x = 0;
    const parts = resident.map((model, i) => {
      const width = 100 * model.size / most, part = s("rect", { class: `m${i % 6}`, x: `${x}%`, y: 0, width: `${width}%`, height: 22 }, s("title", {}, `${model.name}: ${gigabytes(model.size)}`));
      x += width;
      return part;
    });
    return [
      h("p", { class: "soft" }, held, room.most ? `The most at one time was ${gigabytes(most)}.` : ""),
      s("svg", { class: "memory", role: "img", "aria-label": text, height: 22 }, s("rect", { class: "rail", width: "100%", height: 22 }), parts),
      h("table", { class: "cards" },
        h("thead", {}, h("tr", {}, ["Model", "Unloads in", "Eviction order", "Memory", "Activity", "Context"].map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", {}, [...resident, ...models.filter((m) => !m.rank)].map((model, i) => row(model, i)))),
    ];
  });
}

function row(model, i) {
  const kind = model.dead ? "dead" : model.resident ? "" : "loading";
  const vram = model.size_vram, cell = (of, ...children) => h("td", { "data-of": of }, children);
  return h("tr", {},
    h("td", {}, model.rank ? s("svg", { class: "dot", "aria-hidden": "true" }, s("rect", { class: `m${i % 6}`, width: "100%", height: "100%", rx: 2 })) : null, named(model.name),
      h("small", {}, [model.parameter_size, model.quantization, model.keep_alive !== null && model.resident ? `keep-alive ${keepAlive(model.keep_alive)}` : ""].filter(Boolean).join(", "))),
    cell("Unloads in", ticks(h("span", { class: `until num ${kind}` }), () => until(model)[0]), ticks(h("small"), () => until(model)[1])),
    cell("Eviction order", model.rank ? h("span", { class: model.rank === 1 ? "tag first" : "tag" }, ORDER[model.rank - 1] ?? `${model.rank}th`) : "",
      model.rank && !model.rank_known ? h("small", {}, "keep-alive assumed") : ""),
    cell("Memory", model.size ? h("span", { class: "num" }, gigabytes(model.size)) : "", vram === null || !model.size ? "" : h("small", {}, vram >= model.size ? "all on the GPU" : vram ? `${percent(vram / model.size)} on the GPU` : "on the CPU")),
    cell("Activity", model.slots ? [h("span", { class: "num" }, `${model.slots_busy} of ${model.slots} busy`)] : model.requests ? count(model.requests, "request") : "",
      model.tokens_per_second ? h("small", {}, `${model.tokens_per_second} tokens/s`) : ""),
    cell("Context", model.context ? h("span", { class: "num" }, model.context_used ? `${percent(model.context_used / model.context)} full` : `${model.context} tokens`) : "",
      model.context_used ? h("small", {}, `of ${model.context} tokens`) : ""));
}

// -- the bars ------------------------------------------------------------------------------------------

const spanName = () => ({ 600: "10 minutes", 3600: "the last hour", 21600: "6 hours", 86400: "24 hours" })[state.span] ?? "this time";
let width = 600;

function bars() {
  const now = clock(), begin = now - state.span, stays = [...past.stays.values()].filter((x) => (x.end ?? now) >= begin);
  const names = [...new Set([...state.status.models.map((m) => m.name), ...stays.map((x) => x.model), ...[...past.minutes.values()].map((x) => x.model)])];
  const recent = (name) => Math.max(0, ...stays.filter((x) => x.model === name).map((x) => x.end ?? Infinity));
  names.sort((a, b) => (recent(b) > recent(a) ? 1 : recent(b) < recent(a) ? -1 : a < b ? -1 : 1));
  const step = Math.max(1, state.span / width), beat = Math.floor(now / step);
  show("time", [state.span, width, beat, state.status.models, past.stays.size, lastIds()], () => {
    if (!names.length) return [h("p", {}, `No model was seen in memory within ${spanName()}.`)];
    const x = (moment) => Math.max(0, Math.min(width, (moment - begin) / state.span * width));
    return [
      h("div", { class: "bars" },
        names.map((name) => [h("div", {}, named(name)), bar(name, stays.filter((each) => each.model === name), x, begin, now)]),
        h("div", { class: "axis-name", "aria-hidden": "true" }), axis(x, begin, now)),
      legend(),
    ];
  });
}

const lastIds = () => Object.values(past).map((known) => { let last; for (last of known.keys()); return last; }).concat(
  [...past.stays.values()].map((stay) => stay.end ?? 0).reduce((a, b) => a + b, 0));

const at = (moment) => CLOCK.format(wall(moment));
const between = (low, high) => `between ${at(low)} and ${at(high)}`;

function stayInWords(stay) { // what its piece of the bar shows
  const what = stay.dead ? "dead" : "in memory";
  const from = stay.loading ? `loading from ${at(stay.loading)}, ${what} from ${at(stay.start)}`
    : stay.low ? `appeared ${between(stay.low, stay.start)}, ${what}` : `${what} from ${at(stay.start)}`;
  const to = !stay.end ? "to now" : stay.end_low ? `until it was unloaded ${between(stay.end_low, stay.end)}` : `to ${at(stay.end)}`;
  return `${from} ${to}${stay.why ? `, ${stay.why}` : ""}`;
}

function bar(name, stays, x, begin, now) {
  const parts = [s("rect", { class: "rail", x: 0, y: 4, width, height: 18 })], words = [], told = [];
  const drawn = {}; // the last piece of each kind: what is closer than a pixel joins it, so that pixels bound the elements
  const piece = (kind, from, to, title) => {
    const last = drawn[kind];
    if (last && from - last.to < 1 && to - last.from < 3) {
      last.to = Math.max(last.to, to);
      last.element.setAttribute("width", Math.max(1.5, last.to - last.from));
    } else if (to > from) {
      const fill = kind === "unsure" ? "url(#hatch)" : null;
      const element = s("rect", { class: kind, fill, x: from, y: 4, width: Math.max(1.5, to - from), height: 18 }, s("title", {}, title));
      drawn[kind] = { from, to, element };
      parts.push(element);
    }
  };
  const apart = (kind, place) => { // whether a mark would be seen beside the last one
    if (place - (drawn[kind] ?? -9) < 3) return false;
    drawn[kind] = place;
    return true;
  };
  stays.sort((a, b) => a.start - b.start);
  stays.forEach((stay, i) => {
    const end = stay.end ?? now, left = x(stay.start), right = x(end), sentence = stayInWords(stay);
    if (stay.loading) piece("load", x(stay.loading), left, `loading from ${at(stay.loading)}`);
    if (stay.low) piece("unsure", x(stay.low), left, `appeared ${between(stay.low, stay.start)}`);
    piece(stay.dead ? "gone" : "stay", left, x(stay.end_low ?? end), sentence);
    if (stay.end_low) piece("unsure", x(stay.end_low), right, `unloaded ${between(stay.end_low, end)}`);
    told.push(sentence);
    if (!stay.end || stay.dead || end < begin) return;
    if (!apart("mark", right)) return;
    parts.push(s("path", { class: "mark", d: `M${right} 2v22l-5 -4v-14z` }, s("title", {}, stay.why || "reason not known yet")));
    const text = stay.why || "reason not known yet", long = text.length * 6.6 + 6, next = stays[i + 1] ? x(stays[i + 1].loading ?? stays[i + 1].low ?? stays[i + 1].start) : width;
    if (right + long < next) words.push(s("text", { x: right + 4, y: 18 }, text));
    else if (right - left > long + 4) words.push(s("text", { class: "inside", x: right - 8, y: 18, "text-anchor": "end" }, text));
  });
  const model = state.status.models.find((each) => each.name === name);
  if (model?.loading_since && !model.resident) {
    piece("load", x(model.loading_since), width, "loading now");
    told.push(`loading since ${at(model.loading_since)}`);
  }
  for (const outage of past.outages.values()) {
    if ((outage.end ?? now) < begin) continue;
    piece("blind", x(outage.start), x(outage.end ?? now), outage.text);
    told.push(`not known ${outage.start > begin ? `from ${at(outage.start)} ` : ""}to ${outage.end ? at(outage.end) : "now"}: ${outage.text}`);
  }
  const tally = { cold: 0, warm: 0, failed: 0 };
  const exact = [...past.requests.values()], oldest = exact.length ? Math.min(...exact.map((each) => each.at)) : Infinity;
  const tick = (moment, kind) => apart(`tick-${kind}`, x(moment)) && parts.push(kind === "failed"
    ? s("path", { class: "tick-failed", d: `M${x(moment) - 3} 26l6 7m0 -7l-6 7` })
    : s("path", { class: `tick-${kind}`, d: `M${x(moment)} ${kind === "cold" ? 24 : 27}V33` }));
  const kind = (each) => (each.failed ? "failed" : each.start === "cold" ? "cold" : "warm");
  for (const minute of past.minutes.values()) {
    if (minute.model !== name || minute.at + 60 < begin) continue;
    for (const each of ["warm", "cold", "failed"]) {
      tally[each] += minute[each] ?? 0;
      if (minute[each] && minute.at + 60 < oldest) tick(minute.at + 30, each);
    }
  }
  exact.sort((a, b) => a.at - b.at); // after the minutes, which are older
  for (const each of exact) if (each.model === name && each.at >= begin) tick(each.at, kind(each));
  const requests = tally.cold + tally.warm + tally.failed;
  if (requests) told.push(`${count(requests, "request")}: ${tally.cold} cold, ${tally.warm} warm, ${tally.failed} failed`);
  return s("svg", { role: "img", "aria-label": `${name}: ${told.join("; ") || "not in memory"}`, height: 34, viewBox: `0 0 ${width} 34`, preserveAspectRatio: "none" }, parts, words);
}

function axis(x, begin, now) {
  const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400], step = steps.find((each) => each / state.span * width > 70) ?? 21600;
  const zone = -wall(now).getTimezoneOffset() * 60, parts = [s("path", { class: "axis", d: `M0 1H${width}` })];
  for (let t = Math.ceil((begin + zone) / step) * step - zone; t < now; t += step) {
    parts.push(s("path", { class: "axis", d: `M${x(t)} 1v5` }));
    if (x(t) > 25 && x(t) < width - 25) parts.push(s("text", { class: "axis-text", x: x(t), y: 18, "text-anchor": "middle" }, SHORT.format(wall(t))));
  }
  return s("svg", { "aria-hidden": "true", height: 22, viewBox: `0 0 ${width} 22` }, parts);
}

function legend() {
  const box = (kind, fill) => s("rect", { class: kind, fill, width: 22, height: 12 });
  const unsure = [...past.stays.values()].some((stay) => stay.low || stay.end_low);
  const entry = (text, ...parts) => h("li", {}, s("svg", { "aria-hidden": "true", viewBox: "0 0 22 12" }, parts), text);
  return h("ul", { class: "legend" },
    entry("in memory", box("stay")), entry("loading", box("load")), entry("dead", box("gone")), entry("absent", box("rail")),
    unsure ? entry("loaded or unloaded in this time", box("unsure", "url(#hatch)")) : "",
    past.outages.size ? entry("not known", box("blind")) : "",
    entry("unloaded", s("path", { class: "mark", d: "M12 0v12l-5 -2v-8z" })),
    entry("cold request", s("path", { class: "tick-cold", d: "M11 1V11" })), entry("warm", s("path", { class: "tick-warm", d: "M11 5V11" })),
    entry("failed", s("path", { class: "tick-failed", d: "M8 3l6 7m0 -7l-6 7" })));
}

// -- events, waits, advice, sources ----------------------------------------------------------------------

function facts(event) {
  const list = [], add = (...text) => list.push(h("li", {}, text));
  if (event.since) add("It was in memory since ", when(event.since), `, for ${lasting(event.at - event.since)}.`);
  if (event.early > 0.05) add(`Its keep-alive had ${lasting(event.early)} left.`);
  if (event.early === -1) add("Its keep-alive was -1: it had no deadline.");
  if (event.load_seconds) add(`Its load took ${lasting(event.load_seconds)}.`);
  for (const sentence of event.evidence ?? []) add(`${sentence[0].toUpperCase()}${sentence.slice(1)}.`);
  if (event.by) add("Its memory went to ", named(event.by), ".");
  if (event.at - event.low > 0.05) add("It happened between ", when(event.low), " and ", when(event.at), ".");
  if (event.settled - event.at > 1) add("The reason was known ", `${lasting(event.settled - event.at)} later.`);
  if (event.sure !== undefined) add(`This reason is right in ${Math.floor(1000 * event.sure) / 10} % of such cases.`);
  if (event.reason) add("In the metrics: ", h("code", {}, `reason="${event.reason}"`));
  return list;
}

function more(id, all) {
  return all.length > SHOWN ? h("button", { type: "button", "data-id": `more-${id}`, onclick: () => {
    if (!state.all.delete(id)) state.all.add(id);
    draw();
  } }, state.all.has(id) ? "Show fewer" : `Show all ${all.length}`) : null;
}

function events() {
  const all = eventsNewestFirst(), shown = state.all.has("events") ? all : all.slice(0, SHOWN);
  show("events", [shown.map((event) => event.id), all.length > SHOWN ? all.length : 0], () => [
    all.length ? h("ol", { class: "list" }, shown.map((event) => {
      const list = facts(event), what = [event.model ? named(event.model) : "Server", event.kind === "unloaded" ? " unloaded: " : ": ", event.text];
      return h("li", { class: event.kind }, list.length
        ? h("details", { "data-id": event.id }, h("summary", { "data-id": `event-${event.id}` }, when(event.at), h("span", {}, what, " ", h("span", { class: "why" }, event.kind === "unloaded" ? "Why?" : "Facts"))), h("ol", {}, list))
        : h("div", { class: "plain-event" }, when(event.at), h("span", {}, what)));
    })) : h("p", {}, `Nothing was loaded or unloaded within ${spanName()}.`),
    more("events", all),
  ]);
}

function waits() {
  const all = [...past.requests.values()].sort((a, b) => b.at - a.at), shown = state.all.has("waits") ? all : all.slice(0, SHOWN);
  const longest = Math.max(1e-3, ...shown.map((each) => each.took));
  show("waits", [shown.map((each) => each.id), longest, all.length > SHOWN ? all.length : 0], () => [
    shown.length ? h("ol", { class: "list" }, shown.map((each) => {
      let x = 0;
      const parts = (each.parts ?? []).map(([name, seconds]) => {
        const wide = 100 * seconds / longest, part = s("rect", { class: `w-${name.split(" ")[0]}`, x: `${x}%`, width: `${wide}%`, height: 14 });
        x += wide;
        return part;
      });
      const text = (each.parts ?? []).filter(([, seconds]) => seconds >= 0.05).map(([name, seconds]) => `${name} ${lasting(seconds)}`).join(", ");
      const how = each.failed ? `failed (${each.outcome.replaceAll("_", " ")})` : each.outcome === "client_gone" ? "client left" : each.start === "unknown" ? "" : each.start;
      return h("li", { class: "wait" }, h("div", {}, when(each.at), " ", named(each.model), " ", how, " ", h("span", { class: "num" }, lasting(each.took))),
        s("svg", { "aria-hidden": "true", height: 14 }, parts), h("span", { class: "small" }, text));
    })) : h("p", {}, "No request seen. ", state.status.sources.some((x) => x.name === "Requests" && x.on) ? "" : "Send requests through the exporter's proxy to see what they wait for."),
    more("waits", all),
  ]);
}

function copier(line) {
  return h("div", { class: "line" }, h("code", {}, line), navigator.clipboard ? h("button", { type: "button", "data-id": `copy-${line}`, onclick: async (event) => {
    await navigator.clipboard.writeText(line);
    event.target.textContent = "Copied";
  } }, "Copy") : null);
}

function advice() {
  show("advice", state.status.advice, () => state.status.advice.length ? h("ul", { class: "list" }, state.status.advice.map((each) => h("li", { class: "wait" },
    h("div", {}, named(each.model), ": ", each.line ? ["keep it for ", h("b", {}, keepAlive(each.advised)), each.in_force === null ? "" : ` instead of ${keepAlive(each.in_force)}`]
      : each.samples < 5 ? `no advice yet: ${each.samples} of 5 idle gaps seen` : `${each.in_force === null ? "" : `keep ${keepAlive(each.in_force)}: `}no other keep-alive is clearly better`),
    each.saves ? h("span", { class: "small" }, `${each.saves} (${each.basis}, ${count(each.samples, "idle gap")})`) : null,
    each.line ? copier(each.line) : null))) : h("p", {}, "No model has been in memory yet."));
}

function sources() {
  show("sources", state.status.sources, () => state.status.sources.map((each) => h("div", { class: "state" },
    h("span", { class: each.on ? "on" : "off", "aria-hidden": "true" }, each.on ? "✓" : "–"), h("b", {}, each.name),
    h("span", {}, h("span", { class: "unseen" }, each.on ? "on: " : "off: "), each.detail), each.line ? h("div", { class: "small" }, "To turn it on: ", h("code", {}, each.line)) : null)));
}

// -- all of it -----------------------------------------------------------------------------------------

function layout() {
  const choice = h("fieldset", {}, h("legend", { class: "unseen" }, "How far back"), SPANS.map(([seconds, text]) => h("label", {},
    h("input", { type: "radio", name: "span", value: seconds, ...(seconds === state.span ? { checked: "" } : {}), onchange: () => {
      state.span = seconds;
      ask();
    } }), text)));
  const time = section("time", null);
  time.prepend(h("div", { class: "head" }, h("h2", { id: "time-title" }, "When it was in memory"), choice));
  $("live").append(
    s("svg", { class: "unseen", "aria-hidden": "true" }, s("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      s("path", { class: "hatching", d: "M1 0v5" }))),
    h("div", { class: "grid three" }, section("next", "Next unload", "answer"), section("last", "Last unload, and why", "answer"), section("queue", "Waiting requests", "answer")),
    section("now", "In memory now"), time,
    h("div", { class: "grid two" }, section("events", "What happened"), section("waits", "What requests waited for")),
    h("div", { class: "grid two" }, section("advice", "Keep-alive advice"), section("sources", "What is watched")));
  $("plain").remove();
  $("live").hidden = false;
  new ResizeObserver(() => {
    const found = sections.time.body.querySelector(".bars > svg")?.clientWidth;
    if (found && found !== width) {
      width = found;
      bars();
    }
  }).observe(sections.time.body);
}

function draw() {
  if (document.hidden || !state.status) return;
  const { server } = state.status;
  $("server").textContent = `Ollama ${server.version ?? ""} at ${server.url} ${server.up ? "answers" : "does not answer"}${server.shared ? "; several servers seem to answer there" : ""}.`;
  answers();
  memory();
  bars();
  events();
  waits();
  advice();
  sources();
}

function second() {
  if (document.hidden) return;
  if (stream && performance.now() - heard > SILENCE * 1000) cut();
  for (let i = ticking.length - 1; i >= 0; i--) {
    const element = ticking[i][0].deref();
    if (!element?.isConnected) ticking.splice(i, 1);
    else {
      const text = ticking[i][1]();
      if (element.textContent !== text) element.textContent = text;
    }
  }
  answers();
  bars();
}

takeAll(JSON.parse($("document").textContent));
const begun = Math.max(...[...past.outages.values()].map((outage) => (outage.start ? 0 : outage.end)), 0);
if (clock() - begun < 500) state.span = 600; // nothing older is known
$("document").remove();
layout();
draw();
const measured = sections.time.body.querySelector(".bars > svg")?.clientWidth;
if (measured) {
  width = measured;
  bars();
}
setInterval(second, 250);
if (!document.hidden) connect();
