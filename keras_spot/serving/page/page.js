"use strict";

// What is asked here is what curl asks: /v1/models, and NAME:predict below it.

const SHOWN = 60; // tasks shown at once
const byId = (id) => document.getElementById(id);
const chosen = new Map(); // name -> its card
const words = new Map(); // field -> what was last written into a field of that name
let models = new Map();

// Apostrophes and the like, too, which a shell would take for its own.
const encoded = (part) =>
  encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
const path = (name) => `/v1/models/${name.split("/").map(encoded).join("/")}:predict`;

// What stands behind # may be anything.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// === Choosing ===

function showTasks() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const fitting = [...models.keys()].filter((name) => name.toLowerCase().includes(wanted));
  const shown = fitting.slice(0, SHOWN);
  byId("tasks").replaceChildren(
    ...shown.map((name) => {
      const box = element("input", { type: "checkbox", value: name, checked: chosen.has(name) });
      box.addEventListener("change", () => (box.checked ? choose(name) : drop(name)));
      return element("label", { className: "chip" }, box, element("span", { textContent: name }));
    }),
  );
  const more = fitting.length - shown.length;
  byId("rest").textContent = fitting.length
    ? more > 0 ? `and ${more} more; write part of a name` : ""
    : "No task of that name.";
}

function choose(name, focus = true) {
  if (!models.has(name) || chosen.has(name)) return;
  const card = makeCard(models.get(name));
  chosen.set(name, card);
  byId("cards").append(card);
  if (focus) card.querySelector("textarea").focus({ preventScroll: true });
  remember();
}

function drop(name) {
  chosen.get(name)?.remove();
  chosen.delete(name);
  remember();
}

function remember() {
  const names = [...chosen.keys()].map(encodeURIComponent).join("&");
  history.replaceState(null, "", names ? `#${names}` : location.pathname);
  byId("empty").hidden = chosen.size > 0 || models.size === 0;
}

// === Cards ===

function makeCard(model) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  card.querySelector("h3").textContent = model.name;
  card.setAttribute("aria-label", model.name);
  const close = card.querySelector(".close");
  close.setAttribute("aria-label", `Remove ${model.name}`);
  close.addEventListener("click", () => {
    drop(model.name);
    showTasks();
    byId("filter").focus();
  });
  showTemplate(card.querySelector(".template"), model);
  for (const field of model.fields) {
    const area = element("textarea", { name: field, value: words.get(field) ?? "", rows: 2 });
    area.addEventListener("input", () => spread(area));
    card.querySelector(".fields").append(element("label", {}, field, area));
  }
  card.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(card, model);
  });
  showCommand(card, model);
  return card;
}

function showTemplate(place, model) {
  for (const [part, field] of model.input.matchAll(/\{\{|\}\}|\{([^{}]+)\}|[^{}]+/g)) {
    if (field) place.append(element("mark", { textContent: field }));
    else place.append(part === "{{" ? "{" : part === "}}" ? "}" : part);
  }
}

// Fields of the same name are one field: the same words, asked of several tasks.
function spread(area) {
  words.set(area.name, area.value);
  for (const [name, card] of chosen) {
    for (const other of card.querySelectorAll("textarea")) {
      if (other !== area && other.name === area.name) other.value = area.value;
    }
    showCommand(card, models.get(name) ?? { name });
  }
}

function bodyOf(card, model) {
  const areas = [...card.querySelectorAll("textarea")];
  const fields = Object.fromEntries(areas.map((area) => [area.name, area.value]));
  const body = { instances: [fields] };
  if (model.labels?.length) body.signature_name = "classify";
  return body;
}

function showCommand(card, model) {
  const body = JSON.stringify(bodyOf(card, model)).replaceAll("'", "'\\''");
  card.querySelector("code").textContent = `curl ${location.origin}${path(model.name)} -d '${body}'`;
}

// === Asking ===

async function ask(card, model) {
  const button = card.querySelector(".ask");
  const place = card.querySelector(".answer");
  button.disabled = true;
  const started = performance.now();
  try {
    const response = await fetch(path(model.name), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(bodyOf(card, model)),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    show(place, answer.predictions[0], performance.now() - started);
  } catch (error) {
    const text = error instanceof TypeError ? "The server does not answer." : error.message;
    place.replaceChildren(element("p", { className: "error", textContent: text }));
  } finally {
    button.disabled = false;
  }
}

function show(place, row, milliseconds) {
  const time = element("p", { className: "quiet time" }, `${Math.round(milliseconds)} ms`);
  if (row.labels === undefined) {
    const text = row.outputs === "" ? "(no words)" : row.outputs;
    place.replaceChildren(element("p", { className: "said", textContent: text }), time);
    return;
  }
  const pairs = row.labels.map((label, i) => [label, row.probabilities[i]]);
  pairs.sort((one, other) => other[1] - one[1]);
  const list = element("ol", {}, ...pairs.map(([label, share], i) => {
    const bar = element("span", { className: "bar", ariaHidden: "true" });
    const percent = `${(100 * share).toFixed(1)}%`;
    requestAnimationFrame(() => { bar.style.width = percent; });
    return element("li", { className: i ? "" : "best" }, bar,
      element("span", { textContent: label }),
      element("span", { className: "share", textContent: percent }));
  }));
  place.replaceChildren(list, time);
}

// === Start ===

async function load() {
  const answer = await (await fetch("/v1/models")).json();
  const before = JSON.stringify([...models.values()]);
  models = new Map(answer.models.map((model) => [model.name, model]));
  if (before === JSON.stringify([...models.values()])) return;
  const engines = [...new Set(answer.models.map((model) => model.engine))].join(", ");
  const count = models.size === 1 ? "1 task" : `${models.size} tasks`;
  byId("summary").textContent = `${count} · ${engines}`;
  showTasks();
}

async function start() {
  try {
    await load();
  } catch {
    byId("summary").textContent = "The server does not answer.";
    return;
  }
  const asked = location.hash.slice(1).split("&").filter(Boolean).map(decoded);
  const names = asked.filter((name) => models.has(name));
  for (const name of names.length ? names : [...models.keys()].slice(0, 1)) choose(name, false);
  showTasks();
  remember();
  setInterval(() => { if (!document.hidden) load().catch(() => {}); }, 5000);
}

byId("filter").addEventListener("input", showTasks);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    for (const card of chosen.values()) card.querySelector("form").requestSubmit();
  }
});
start();
