// Tables of an answer: tags of tokens, classes, and all other outputs.

import { element } from "./element.js";

const MOST_CHARACTERS = 300; // of an output's values
const MOST_STEPS = 500;

/** Returns a table; `heads` and `rows` hold texts or elements, and columns in `numbers` are aligned as numbers. */
export function table(className, label, heads, rows, numbers = []) {
  const cell = (content, column) => {
    const className = numbers.includes(column) ? "number" : "text";
    return element("td", { className, dir: "auto" }, content);
  };
  return element(
    "table",
    { className, ariaLabel: label },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  );
}

/** Returns a number with four decimals; NaN and infinities, which are strings, as they are. */
export function rounded(score) {
  return Number.isFinite(score) ? score.toFixed(4) : String(score);
}

/**
 * Returns the table of a row's tags, one for each token.
 *
 * @param {(string|number)[]} tags The tags, or their ids; "" and -1 in the padding.
 * @param {number[]} [scores] The score of each tag.
 * @param {string[]} [tokens] The tokens; without them the steps are numbered.
 */
export function tagTable(tags, scores, tokens) {
  const last = tags.findLastIndex((tag) => tag !== "" && tag !== -1);
  const shown = tags.slice(0, Math.min(last + 1, MOST_STEPS));
  const scored = Array.isArray(scores) && scores.length === tags.length;
  const row = (tag, step) => [
    String(tokens?.[step] ?? step + 1),
    String(tag),
    ...(scored ? [rounded(scores[step])] : []),
  ];
  const heads = [tokens ? "token" : "step", "tag", ...(scored ? ["score"] : [])];
  return table("tags", "Tags of the tokens", heads, shown.map(row), [2]);
}

/** Returns the table of a row's classes, best first, with a bar for each probability. */
export function classTable(classes, probabilities) {
  const rows = classes.map((name, index) => {
    const value = probabilities?.[index];
    if (value === undefined) return [String(name)];
    return [String(name), rounded(value), element("meter", { min: 0, max: 1, value: Number(value) || 0 })];
  });
  const heads = ["class", ...(probabilities ? ["probability", ""] : [])];
  return table("classes", "Classes, best first", heads, rows, [1]);
}

/** Returns the table of all outputs, with the values of the first row of each. */
export function valueTable(outputs) {
  const rows = Object.entries(outputs).map(([name, value]) => {
    const first = Array.isArray(value) ? value[0] : value;
    const text = JSON.stringify(first) ?? "";
    return [name, shapeOf(value), text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)} …` : text];
  });
  return table("values", "Outputs", ["output", "shape", "first row"], rows);
}

function shapeOf(value) {
  const sizes = [];
  for (let part = value; Array.isArray(part); part = part[0]) sizes.push(part.length);
  return `(${sizes.join(", ")})`;
}
