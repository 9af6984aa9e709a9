// Client of the server that sent this page. The server's answers only ever become text of elements, never markup.

import { parse, showAnswer } from "./answer.js";
import { showCard, showExamples, showSummary } from "./card.js";
import { element } from "./element.js";
import { fieldsOf, verbOf } from "./fields.js";

const MOST_CHARACTERS = 200_000; // of the shown part of a request or an answer

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((found) => [found.id, found]));
let models = []; // [{name, versions}]
let card = {}; // of the chosen version: {title, description, examples, problem}, each of them optional
let signatures = {}; // of the chosen version, by name
let fields = []; // of the chosen signature
let current = new AbortController(); // of the request in progress

/** Error with a title. */
class Failure extends Error {
  constructor(title, message) {
    super(message);
    this.title = title;
  }
}

/** Cancels the request in progress, does `work` instead, and shows its result or its error. */
async function attempt(work) {
  current.abort();
  const { signal } = (current = new AbortController());
  page.failure.replaceChildren();
  page.answer.hidden = true;
  page.progress.textContent = "waiting …";
  try {
    page.progress.textContent = (await work(signal)) ?? "";
  } catch (error) {
    if (signal.aborted) return;
    page.progress.textContent = "";
    const title = error.title ?? "The page failed";
    page.failure.replaceChildren(element("h2", {}, title), element("pre", {}, error.message));
  }
}

/** Returns the body of an answer; throws a Failure with the server's text for an error. */
async function request(path, options) {
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    throw new Failure("The server cannot be reached", error.message);
  }
  if (response.ok) return text;
  throw new Failure(`The server answered ${response.status} ${response.statusText}`, errorText(text));
}

function errorText(body) {
  try {
    return JSON.parse(body).error ?? body;
  } catch {
    return body;
  }
}

function modelPath() {
  const version = page.version.value && `/versions/${page.version.value}`;
  return `v1/models/${encodeURIComponent(page.model.value)}${version}`;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  select.disabled = options.length < 2;
}

async function loadModels(signal) {
  models = parse(await request("playground/models", { signal })).models;
  fill(page.model, models.map(({ name }) => [name, name]));
  if (!models.length) throw new Failure("There is no model", "No version of a model is available on this server.");
  await chooseModel(signal);
}

async function chooseModel(signal) {
  const { versions } = models.find(({ name }) => name === page.model.value);
  const others = versions.length > 1 ? versions.map((version) => [version, version]) : [];
  fill(page.version, [["", `latest (${versions[0]})`], ...others]);
  await chooseVersion(signal);
}

async function chooseVersion(signal) {
  page.ask.disabled = true;
  const paths = [`${modelPath()}/metadata`, modelPath().replace("v1/", "playground/")];
  const [{ metadata }, about] = (await Promise.all(paths.map((path) => request(path, { signal })))).map(parse);
  const before = page.signature.value;
  card = about;
  signatures = metadata.signature_def.signature_def;
  const names = Object.keys(signatures).filter((name) => !name.startsWith("__")).sort();
  fill(page.signature, names.map((name) => [name, name]));
  page.signature.value = [before, "serving_default"].find((name) => names.includes(name)) ?? names[0];
  showCard(card, page.model.value, page);
  showExamples(card.examples ?? [], page.examples, chooseExample);
  page.ask.disabled = !names.length;
  if (!names.length) throw new Failure("There is no signature", "This version has none that can be asked.");
  chooseSignature();
}

function chooseSignature() {
  // Keep the typed text of inputs with the same name and type.
  const changed = fields.filter(({ box, initial }) => box.type !== "file" && box.value !== initial);
  const typed = Object.fromEntries(changed.map(({ label, box }) => [label.textContent, box.value]));
  const signature = signatures[page.signature.value];
  fields = fieldsOf(signature);
  const example = (card.examples ?? []).find((one) => signatureOf(one) === page.signature.value);
  if (example) fillFields(example);
  for (const field of fields) {
    field.initial = field.box.value;
    if (typed[field.label.textContent] !== undefined) field.box.value = typed[field.label.textContent];
  }
  showSummary(signature, fields, page.summary);
  page.inputs.replaceChildren(...fields.map(({ label }) => label));
}

function signatureOf({ signature_name: name = "serving_default" }) {
  return name;
}

function fillFields({ inputs }) {
  try {
    for (const { name, fill } of fields) if (name in inputs) fill(inputs[name]);
  } catch (error) {
    page.problem.textContent = `An example does not fit the signature ${page.signature.value}: ${error.message}`;
  }
}

/** Shows an example and asks the model. */
function chooseExample(example) {
  if (signatureOf(example) !== page.signature.value) {
    if (!signatures[signatureOf(example)]) {
      page.problem.textContent = `The example's signature ${signatureOf(example)} does not exist.`;
      return;
    }
    page.signature.value = signatureOf(example);
    chooseSignature();
  }
  fillFields(example);
  page.form.requestSubmit();
}

async function ask(signal) {
  const signature = signatures[page.signature.value];
  const path = `${modelPath()}:${verbOf(signature)}`;
  const values = await Promise.all(fields.map(({ json }) => json()));
  const members = fields.map(({ name }, index) => `${JSON.stringify(name)}: ${values[index]}`).join(", ");
  const inputs = verbOf(signature) === "predict" ? `"inputs": {${members}}` : members;
  const body = `{"signature_name": ${JSON.stringify(page.signature.value)}, ${inputs}}`;
  const started = performance.now();
  const text = await request(path, { method: "POST", body, signal });
  const took = performance.now() - started;
  page.sent.textContent = cut(`POST ${new URL(path, document.baseURI)}\n\n${body}`);
  show(text, signature.outputs);
  return `answered in ${took < 10 ? took.toFixed(1) : took.toFixed(0)} ms`;
}

function show(text, outputs) {
  const typed = fields.find(({ words }) => words)?.words() ?? [];
  page.whole.open = !showAnswer(parse(text), outputs, typed, page.best, page.attention);
  page.received.textContent = cut(tidied(text));
  page.answer.hidden = false;
}

function cut(text) {
  const more = text.length > MOST_CHARACTERS ? `\n… and ${text.length - MOST_CHARACTERS} characters more` : "";
  return text.slice(0, MOST_CHARACTERS) + more;
}

/** Returns a JSON text with the numbers of a list on one line, and every digit as received. */
function tidied(text) {
  const numbers = /\[[^[\]{}"]*\]/g;
  return text.replace(numbers, (list) => list.replace(/\n\s*/g, " ").replace("[ ", "[").replace(" ]", "]"));
}

page.model.addEventListener("change", () => attempt(chooseModel));
page.version.addEventListener("change", () => attempt(chooseVersion));
page.signature.addEventListener("change", () => attempt(async () => chooseSignature()));
page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(ask);
});
page.inputs.addEventListener("keydown", (event) => {
  const isEnter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (!isEnter || event.target.type !== "textarea" || event.target.className === "json" || page.ask.disabled) return;
  event.preventDefault();
  page.form.requestSubmit();
});
await attempt(loadModels);
fields[0]?.box.focus();
