// N-best texts of an answer, and the attention of their tokens.

import { element } from "./element.js";
import { heatMap } from "./heat_map.js";
import { rounded } from "./tables.js";

const NO_HYPOTHESIS = -1e30; // score of the missing ones, if there are fewer hypotheses than places

/**
 * Shows the first row of an answer as a list of texts, best first, and the attention of the chosen text.
 *
 * @param {object} outputs The answer's tensors, nested lists, by name.
 * @param {string[]} strings The names of the tensors of strings.
 * @param {HTMLElement} best Element for the texts.
 * @param {HTMLElement} attention Element for the heat map.
 * @returns {boolean} Whether the row consists of texts.
 */
export function showTexts(outputs, strings, best, attention) {
  const draw = (index) => attention.replaceChildren(...attentionOf(outputs, index));
  const candidates = strings.filter((name) => name !== "error" && !/(^|_)tokens$/.test(name));
  const name = candidates.includes("text") || candidates.length !== 1 ? "text" : candidates[0];
  const texts = firstRow(outputs[name]);
  if (!texts.length || !texts.every((text) => typeof text === "string")) return false;
  best.append(nBest(name, texts, outputs, draw));
  draw(0);
  return true;
}

/** Returns the first row of a tensor of one or two dimensions, as a list. */
export function firstRow(tensor) {
  return Array.isArray(tensor) && tensor.length ? [tensor[0]].flat() : [];
}

function nBest(name, texts, outputs, draw) {
  const scores = firstRow(outputs.scores);
  const scored = scores.length === texts.length;
  const row = (text, index) => {
    const number = element("td", { className: "number" }, scored ? rounded(scores[index]) : "");
    const words = element("td", { className: "text", dir: "auto" }, text);
    return element("tr", {}, rank(index, outputs, draw), words, ...(scored ? [number] : []));
  };
  const heads = ["#", name, ...(scored ? ["score"] : [])].map((head) => element("th", { scope: "col" }, head));
  const rows = texts.map(row).filter((_, index) => !(scored && scores[index] <= NO_HYPOTHESIS));
  return element(
    "table",
    { className: "best", ariaLabel: "Texts, best first" },
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  );
}

/** Returns the head of a text's row: its rank, which selects its attention if there is any. */
function rank(index, outputs, draw) {
  const number = String(index + 1);
  if (!weightsOf(outputs, index)) return element("th", { scope: "row" }, number);
  const choice = element("input", { type: "radio", name: "text", checked: index === 0 });
  choice.addEventListener("change", () => draw(index));
  return element("th", { scope: "row" }, element("label", {}, choice, number));
}

function attentionOf(outputs, index) {
  const weights = weightsOf(outputs, index);
  if (!weights) return [];
  const read = namesIn(outputs.source_tokens?.[0]);
  const written = namesIn(outputs.target_tokens?.[0]?.[index]);
  const hint = "A row for each token written, a column for each token read, in percent.";
  const title = element("h2", {}, `What text ${index + 1} attended to`);
  return [title, element("p", {}, hint), heatMap(weights, read, written)];
}

/** Returns a list of names; nothing if the value is not one. */
function namesIn(tokens) {
  return Array.isArray(tokens) && tokens.every((token) => typeof token === "string") ? tokens : undefined;
}

/** Returns the attention of a text, a list for each token written; nothing if there is none. */
function weightsOf({ alignments }, index) {
  const weights = alignments?.[0]?.[index];
  return Array.isArray(weights?.[0]) && weights[0].length ? weights : undefined;
}
