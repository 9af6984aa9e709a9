// Answer of a model: as texts, tags, classes, or a table of its outputs, according to their names.

import { classTable, rounded, tagTable, valueTable } from "./tables.js";
import { element } from "./element.js";
import { firstRow, showTexts } from "./texts.js";

/** Parses a JSON text in which numbers may be NaN, Infinity and -Infinity; those become strings. */
export function parse(text) {
  const part = /"[^"\\]*(?:\\.[^"\\]*)*"|NaN|-?Infinity/g;
  return JSON.parse(text.replace(part, (found) => (found.startsWith('"') ? found : `"${found}"`)));
}

/**
 * Shows the first row of an answer.
 *
 * @param {object} answer The parsed JSON of a predict, classify or regress answer.
 * @param {object} signature The signature's outputs by name.
 * @param {string[]} typed The words of the request, for tags without `tokens`.
 * @param {HTMLElement} best Element for the answer.
 * @param {HTMLElement} attention Element for the heat map.
 * @returns {boolean} Whether it was shown in the form of its kind, not just as a table of its outputs.
 */
export function showAnswer(answer, signature, typed, best, attention) {
  best.replaceChildren();
  attention.replaceChildren();
  if (answer.results) return showResults(answer.results[0], best);
  const names = Object.keys(signature);
  const outputs = names.length === 1 ? { [names[0]]: answer.outputs } : answer.outputs ?? {};
  const refusals = [outputs.error ?? []].flat();
  if (refusals.some(Boolean)) best.append(refusalOf(refusals));
  if (refusals[0]) return true;
  const strings = names.filter((name) => signature[name].dtype === "DT_STRING");
  const table = tagsOf(outputs, typed) ?? classesOf(outputs);
  if (table) best.append(table);
  else if (!showTexts(outputs, strings, best, attention)) best.append(valueTable(withoutEmptyError(outputs)));
  else return true;
  return Boolean(table);
}

/** Returns the reasons why rows are refused, one for each row, empty where all is well. */
function refusalOf(refusals) {
  const reasons = refusals.map((reason, row) => (refusals.length > 1 ? `row ${row + 1}: ${reason}` : reason));
  const shown = reasons.filter((_, row) => refusals[row]).map((reason) => element("p", {}, reason));
  const title = refusals.length > 1 ? "The model refuses rows of this input" : "The model refuses this input";
  return element("div", { className: "refusal" }, element("h2", {}, title), ...shown);
}

function tagsOf({ tags, scores, tokens }, typed) {
  const row = tags?.[0];
  if (!Array.isArray(row) || row.some(Array.isArray)) return undefined;
  const words = isStrings(tokens?.[0]) ? tokens[0] : typed;
  return tagTable(row, scores?.[0], isStrings(words) && words.length ? words : undefined);
}

function classesOf({ classes, probabilities, scores }) {
  const row = classes?.[0];
  if (!Array.isArray(row) || row.some(Array.isArray)) return undefined;
  const values = firstRow(probabilities ?? scores);
  return classTable(row, values.length === row.length ? values : undefined);
}

/** Shows a result of classify, pairs of a label and a score, or of regress, a number. */
function showResults(result, best) {
  if (!Array.isArray(result)) {
    best.append(element("p", { className: "result" }, rounded(result)));
    return true;
  }
  const [classes, scores] = [0, 1].map((place) => result.map((pair) => pair[place]));
  best.append(classTable(classes, scores));
  return true;
}

function withoutEmptyError({ error, ...outputs }) {
  return error === undefined || Object.keys(outputs).length ? outputs : { error };
}

function isStrings(values) {
  return Array.isArray(values) && values.every((value) => typeof value === "string");
}
