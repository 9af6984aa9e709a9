// Attention heat map: a table with a row for each token written and a column for each token read.

import { element } from "./element.js";

const MOST = 200; // rows or columns
const STRONG = 0.65; // from this weight on, the text has the other colour; see page.css
const NAMES_OF_BLANKS = { " ": "␣", "\n": "⏎", "\t": "⇥" };

/**
 * Draws how much each token written attended to each token read.
 *
 * @param {number[][]} weights A row for each token written, zeros in the padding.
 * @param {string[]} [read] The names of the columns, empty in the padding; without them they are numbered.
 * @param {string[]} [written] The names of the rows, likewise.
 * @returns {HTMLElement}
 */
export function heatMap(weights, read, written) {
  const rows = names(written, weights.map((row) => row.some((weight) => weight > 0)));
  const columns = names(read, weights[0].map((_, column) => weights.some((row) => row[column] > 0)));
  const heads = columns.map((name) => element("th", { scope: "col", dir: "auto" }, name));
  const body = rows.map((name, row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", dir: "auto" }, name),
      ...columns.map((_, column) => cell(weights[row][column])),
    ),
  );
  const long = columns.some((name) => [...name].length > 4);
  const table = element(
    "table",
    { className: long ? "heat long" : "heat", ariaLabel: "Attention: rows are written, columns are read, in percent" },
    element("thead", {}, element("tr", {}, element("td"), ...heads)),
    element("tbody", {}, ...body),
  );
  // Focusable, so that it can be scrolled with the keyboard.
  return element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Attention" }, table);
}

function cell(weight) {
  const percent = Math.round(100 * weight);
  const made = element("td", {}, percent > 0 ? String(percent) : "");
  made.style.setProperty("--weight", `${Math.min(100, Math.max(0, percent))}%`);
  made.classList.toggle("strong", weight >= STRONG);
  return made;
}

/** Returns the names of the tokens without padding; numbers if there are no names. */
function names(tokens, used) {
  const last = tokens ? tokens.findLastIndex((token) => token !== "") : used.lastIndexOf(true);
  return Array.from({ length: Math.min(last + 1, used.length, MOST) }, (_, index) =>
    tokens ? tokens[index].replace(/[ \n\t]/g, (blank) => NAMES_OF_BLANKS[blank]) : String(index + 1),
  );
}
