// The playground: what is typed or answered becomes text nodes only, never markup.
import { bars, element, entities, heatMaps, marked } from "./render.js";

const byId = (id) => document.getElementById(id);
const form = byId("form"), models = byId("model"), fields = byId("fields"), results = byId("results");
const api = (path) => new URL(`../${path}`, location.href).href;
// What stands in the fields: samples, until something is typed.
const texts = {
  text: "A warm, funny and beautifully acted film.\nTwo hours of noise without a single idea.",
  question: "Where do I live?",
  context: "My name is Wolfgang and I live in Berlin, but I work in Munich.",
  query: "Where do I live?",
  documents: "I live in Berlin.\nThe film was good.",
};
const MODES = {
  labels: (outputs) => outputs.has("labels") && outputs.has("scores"),
  similarity: (outputs) => outputs.has("embedding"),
};
let metadata = null, pending = null;

const has = () => new Set(metadata.outputs.map((output) => output.name));
const names = () => metadata.inputs.map((input) => input.name);
const value = (name) => byId(`field-${name}`)?.value ?? "";
const capitalized = (name) => name.charAt(0).toUpperCase() + name.slice(1);
const lines = (text) => text.split("\n").filter((line) => line.trim());
const modelPath = () => `v2/models/${encodeURIComponent(models.value)}`;

async function call(path, body, signal) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
  const sent = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(api(path), { ...sent, headers, signal }).catch(() => { throw new Error("the server cannot be reached"); });
  if (response.status === 401) byId("access").hidden = false;
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Error(answer?.error ?? `the server answered with status ${response.status}`);
  if (!answer) throw new Error("the server's answer is broken off or is not JSON");
  return answer;
}

function say(text, bad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

// A disabled button would lose the focus, so it is only said to be disabled; `run` heeds that.
function wait(request) {
  pending = request;
  results.setAttribute("aria-busy", String(pending !== null));
  for (const name of ["predict", "explain"]) byId(name).setAttribute("aria-disabled", String(pending !== null || !metadata));
}

// One request at a time: a newer one cancels the older, whose answer belongs to what is no longer on the page.
async function ask(doing, path, body, show) {
  pending?.abort();
  const own = new AbortController(), started = performance.now();
  wait(own);
  say(doing);
  try {
    const answer = await call(path, body, own.signal);
    if (own === pending) show(answer, performance.now() - started);
  } catch (error) {
    if (own !== pending) return;
    results.replaceChildren();
    say(error.message, true);
  } finally {
    if (own === pending) wait(null);
  }
}

function addField(name, label, rows) {
  const control = element(rows ? "textarea" : "input", { id: `field-${name}`, name });
  if (rows) control.rows = rows;
  control.value = texts[name] ?? "";
  control.spellcheck = false;
  const caption = element("label", {}, label);
  caption.htmlFor = control.id;
  fields.append(caption, control);
}

function clear() {
  metadata = null;
  byId("about").textContent = "";
  byId("code").hidden = true;
  fields.replaceChildren();
  results.replaceChildren();
}

function choose() {
  clear();
  ask("Loading the model …", modelPath(), null, (answer) => {
    metadata = answer;
    for (const name of names()) {
      const many = name === "documents" || names().length === 1;
      addField(name, many ? `${name === "text" ? "Texts" : capitalized(name)}, one per line` : capitalized(name), name === "context" || many ? 4 : 2);
    }
    if (MODES.labels(has())) addField("candidate_labels", "Candidate labels, between commas", 0);
    if (MODES.similarity(has())) addField("target", "Text to compare with, for explanations", 0);
    byId("about").textContent = `${metadata.platform}, version ${metadata.versions.join(", ")}`;
    say("");
  });
}

function instances() {
  if (names().length === 1) return lines(value(names()[0])).map((text) => ({ [names()[0]]: text }));
  return [Object.fromEntries(names().map((name) => [name, name === "documents" ? lines(value(name)) : value(name)]))];
}

function request(given, explaining) {
  // A bare text is sent as it is, unless the server would take it for a JSON object.
  const bare = (item) => names().length === 1 && !item[names()[0]].trimStart().startsWith("{");
  const data = given.map((item) => (bare(item) ? item[names()[0]] : JSON.stringify(item)));
  const body = { inputs: [{ name: "instances", datatype: "BYTES", shape: [data.length], data }], parameters: {} };
  if (value("candidate_labels").trim()) body.parameters.candidate_labels = value("candidate_labels");
  if (explaining) {
    const target = value("target").trim() || byId("target").value.trim();
    if (target) body.parameters.target = target;
    if (byId("method").value) body.parameters.method = byId("method").value;
    return body;
  }
  if (has().has("probabilities")) body.parameters.top_k = 10;
  const wanted = metadata.outputs.map((output) => output.name).filter((name) => !["logits", "probabilities"].includes(name));
  body.outputs = wanted.filter((name) => name !== "embedding" || !wanted.includes("predict")).map((name) => ({ name }));
  return body;
}

function rows(answer, count) {
  const all = Array.from({ length: count }, () => ({}));
  for (const output of answer.outputs) {
    const width = output.data.length / count;
    all.forEach((row, i) => {
      const part = output.data.slice(i * width, (i + 1) * width).map((item) => parsed(item));
      row[output.name] = width === 1 && output.shape.length < 2 ? part[0] : part;
    });
  }
  return all;
}

function parsed(item) {
  if (typeof item !== "string" || !/^[[{]/.test(item)) return item;
  try { return JSON.parse(item); } catch { return item; }
}

function prediction(row, instance) {
  const text = instance.text ?? instance.context ?? "";
  if (row.predict?.error) return [element("p", { className: "note" }, row.predict.error)];
  if (row.answers?.error) return [element("p", { className: "note" }, row.answers.error)];
  if (Array.isArray(row.answers)) {
    const table = bars("Answers", row.answers.map((item) => [item.answer || "no answer", item.score]));
    return [marked(text, row.answers.filter((item) => item.answer), () => ""), table];
  }
  if (Array.isArray(row.predict) && row.predict[0]?.start !== undefined) return [entities(text, row.predict)];
  if (Array.isArray(row.predict) && !row.predict.length) return [element("p", { className: "text" }, text), element("p", { className: "soft" }, "Nothing was found.")];
  const heading = text ? [element("p", { className: "text" }, text)] : [];
  if (row.labels) return [...heading, bars("Labels", row.labels.map((label, i) => [label, row.scores[i]]))];
  if (row.scores && instance.documents) return [bars("Documents", row.predict.map((i) => [instance.documents[i], row.scores[i]]))];
  if (Array.isArray(row.score)) return [...heading, bars("Labels", row.predict.map((label, i) => [label, row.score[i]]))];
  if (typeof row.score === "number" && typeof row.predict === "string") return [...heading, bars("Label", [[row.predict, row.score]])];
  return [...heading, element("pre", {}, typeof row.predict === "string" ? row.predict : JSON.stringify(row.predict ?? row, null, 1))];
}

function show(answer, given, explaining, milliseconds) {
  const found = rows(answer, given.length);
  results.replaceChildren(...found.map((row, i) => {
    const content = explaining ? heatMaps(row.explanation) : prediction(row, given[i]);
    return element("article", { className: "card" }, ...content);
  }));
  const notes = [`${given.length} ${given.length === 1 ? "answer" : "answers"} in ${Math.round(milliseconds)} ms`];
  const cut = [parsed(answer.parameters?.truncated ?? false)].flat();
  if (cut.some(Boolean)) {
    notes.push(`${cut.filter(Boolean).length} of the texts cut (tokens: ${[parsed(answer.parameters.input_tokens)].flat().join(", ")})`);
  }
  const refused = found.filter((row) => Object.values(row).some((part) => part?.error)).length;
  if (refused) notes.push(`${refused} with an error`);
  say(notes.join(", "), refused > 0);
}

function code(path, body) {
  const url = api(path), json = JSON.stringify(body);
  const guarded = !byId("access").hidden;
  const key = guarded ? ` \\\n  -H "Authorization: Bearer $TOKEN"` : "", pythonKey = guarded ? ', "Authorization": "Bearer ..."' : "";
  byId("curl").textContent = `curl -s ${url} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${json.replaceAll("'", "'\\''")}'`;
  const python = `import json\nimport urllib.request\n\nbody = ${JSON.stringify(body, null, 4)}\n`;
  byId("python").textContent = `${python}request = urllib.request.Request(\n    ${JSON.stringify(url)},\n    json.dumps(body).encode(),\n    {"Content-Type": "application/json"${pythonKey}},\n)\nprint(json.load(urllib.request.urlopen(request)))`;
  byId("code").hidden = false;
}

function run(explaining) {
  if (pending || !metadata) return;
  const given = instances();
  if (!given.length) return say("Type a text first.", true);
  const body = request(given, explaining), path = `${modelPath()}/${explaining ? "explain" : "infer"}`;
  code(path, body);
  ask(explaining ? "Explaining …" : "Predicting …", path, body, (answer, milliseconds) => show(answer, given, explaining, milliseconds));
}

form.addEventListener("submit", (event) => { event.preventDefault(); run(false); });
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(false); }
});
fields.addEventListener("input", ({ target }) => { texts[target.name] = target.value; });
byId("explain").addEventListener("click", () => run(true));
models.addEventListener("change", choose);
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = byId(button.dataset.of).textContent;
    try {
      await navigator.clipboard.writeText(text);
      say(`${button.dataset.of} is copied.`);
    } catch {
      getSelection().selectAllChildren(byId(button.dataset.of));
      say("Press Ctrl + C to copy the selection.");
    }
  });
}

function start() {
  clear();
  ask("Loading the models …", "v2/models", null, (answer) => {
    if (!answer.models.length) throw new Error("no model is loaded");
    const chosen = models.value;
    models.replaceChildren(...answer.models.map((name) => element("option", { value: name, selected: name === chosen }, name)));
    choose();
  });
}

byId("access").addEventListener("submit", (event) => { event.preventDefault(); start(); });
start();
