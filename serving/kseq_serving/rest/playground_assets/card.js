// Card of a version: its title, its description, what its signature takes and answers, and its examples.

import { element } from "./element.js";

const MOST_CHARACTERS = 60; // of an example's name
const DTYPES = { string: "text", float: "numbers", half: "numbers", double: "numbers", bool: "yes or no" };

/** Shows title and description of a version; without a card, the name of the model. */
export function showCard(card, model, page) {
  page.title.textContent = card.title || model;
  page.description.textContent = card.description ?? "";
  page.problem.textContent = card.problem ?? "";
  document.title = `${card.title || model} - kseq-serve playground`;
}

/** Shows what a signature takes and answers, in a line; without the reasons of refusals, which most have. */
export function showSummary(signature, fields, summary) {
  const names = Object.keys(signature.outputs).filter((name) => name !== "error").sort();
  const outputs = names.map((name) => described(name, signature.outputs[name]));
  summary.textContent = `${fields.map(({ name }) => name).join(", ")} → ${outputs.join(", ")}`;
}

function described(name, { dtype, tensor_shape: shape }) {
  const kind = dtype.replace("DT_", "").toLowerCase();
  const sizes = shape.unknown_rank ? "?" : shape.dim.map(({ size }) => (size === "-1" ? "?" : size)).join(", ");
  return `${name}: ${DTYPES[kind] ?? "integers"} (${sizes})`;
}

/** Shows a button for each example; `choose` gets the example whose button was pressed. */
export function showExamples(examples, box, choose) {
  const buttons = examples.map((example, index) => {
    const button = element("button", { type: "button", className: "example", dir: "auto" }, nameOf(example, index));
    button.addEventListener("click", () => choose(example));
    return button;
  });
  box.replaceChildren(...(buttons.length ? [element("span", {}, "Examples"), ...buttons] : []));
}

/** Returns the name of an example: its own, its first text, or its number. */
function nameOf({ name, inputs }, index) {
  const texts = Object.values(inputs).map((value) => (Array.isArray(value) ? value.join(" ") : value));
  const found = name || texts.find((text) => typeof text === "string" && text) || `example ${index + 1}`;
  return found.length > MOST_CHARACTERS ? `${found.slice(0, MOST_CHARACTERS)} …` : found;
}
