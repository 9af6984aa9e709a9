// Inputs of a signature: a field for each, and the JSON of its content.

import { parse } from "./answer.js";
import { element } from "./element.js";

const MOST_VALUES = 1000; // of an example that is shown
const STEPS = 4; // of an example whose number of steps varies
const ZEROS = { DT_STRING: '""', DT_FLOAT: "0.0", DT_DOUBLE: "0.0" };
const IMAGE = /(^|_)(image|picture|png|jpe?g|gif)s?(_|$)/i;
const SOUND = /(^|_)(audio|sound|wave?|mp3|flac)(_|$)/i;
const BYTES = /_bytes$/i;
const LENGTHS = /_?lengths$/i;

/** Returns the call that runs a signature: predict, classify or regress. */
export function verbOf(signature) {
  const verb = signature.method_name.split("/").pop();
  return ["classify", "regress"].includes(verb) ? verb : "predict";
}

/**
 * Returns the fields of a signature's inputs. Each has
 * - `name`: the input's name; `label`: the field's element; `box`: the part of it that takes the focus,
 * - `json()`: the JSON text of the input, or a promise of it,
 * - `fill(row)`: shows a row of an example,
 * - `rank`: the number of dimensions, of a field of words or JSON,
 * - `words()`: the words that were typed, of a field of words.
 */
export function fieldsOf(signature) {
  if (verbOf(signature) !== "predict") {
    return [jsonField("examples", "the features of each", '[{"x": 1.0}]', JSON.stringify)];
  }
  const fields = Object.keys(signature.inputs).sort().map((name) => {
    const { dtype, tensor_shape: shape } = signature.inputs[name];
    return fieldOf(name, dtype, sizesOf(shape));
  });
  for (const field of fields.filter(({ name, rank }) => LENGTHS.test(name) && rank === 1)) {
    const others = fields.filter(({ rank }) => rank > 1);
    const counted = others.find(({ name }) => name === field.name.replace(LENGTHS, "")) ?? others[0];
    if (counted) countSteps(field, counted);
  }
  return fields;
}

/** Makes the field of lengths optional: if it is empty, the steps of another field are counted. */
function countSteps(field, counted) {
  const { box, json } = field;
  box.value = "";
  field.label.querySelector("small").textContent += `; empty counts the steps of ${counted.name}`;
  const count = () => JSON.stringify(parse(counted.json()).map((row) => row.length));
  field.json = () => (box.value.trim() ? json() : count());
}

function sizesOf(shape) {
  return shape.unknown_rank ? [-1] : shape.dim.map(({ size }) => Number(size));
}

function fieldOf(name, dtype, sizes) {
  const isRow = sizes.length < 2 && sizes.every((size) => Math.abs(size) === 1);
  const inRows = sizes.length ? (json) => `[${json}]` : (json) => json;
  if (dtype === "DT_STRING" && isRow) {
    const isFile = [IMAGE, SOUND, BYTES].some((pattern) => pattern.test(name));
    return isFile ? fileField(name, inRows) : textField(name, inRows);
  }
  if (dtype === "DT_STRING" && sizes.length === 2) return { ...wordsField(name), rank: 2 };
  const type = `${dtype.replace("DT_", "").toLowerCase()} (${sizes.join(", ").replaceAll("-1", "?")})`;
  const value = example(first(dtype, sizes.length), sizes);
  return { ...jsonField(name, type, value, (row) => inRows(JSON.stringify(row))), rank: sizes.length };
}

function textField(name, inRows) {
  const { box, label } = makeBox(name, "Enter asks, Shift+Enter begins a line");
  box.placeholder = "Type a text";
  const fill = (row) => (box.value = typeof row === "string" ? row : JSON.stringify(row));
  return { name, box, label, fill, json: () => inRows(JSON.stringify(box.value)) };
}

function wordsField(name) {
  const { box, label } = makeBox(name, "words with spaces between them, or a JSON list of strings");
  const words = () => {
    try {
      return Array.from(JSON.parse(box.value), String);
    } catch {
      return box.value.split(/\s+/).filter(Boolean);
    }
  };
  const fill = (row) => (box.value = row.some((word) => /\s|^$|^\[/.test(word)) ? JSON.stringify(row) : row.join(" "));
  return { name, box, label, fill, words, json: () => JSON.stringify([words()]) };
}

function fileField(name, inRows) {
  const kind = IMAGE.test(name) ? "image" : SOUND.test(name) ? "audio" : "";
  const box = element("input", { type: "file", required: true, accept: kind && `${kind}/*` });
  const preview = element("img", { className: "preview", alt: "", hidden: true });
  const hint = element("small", {}, kind ? `${kind === "image" ? "an image" : "a sound"} file` : "a file");
  const label = element("label", {}, element("span", {}, name), hint, box, preview);
  let given; // bytes of an example, in base 64
  const show = (blob) => {
    URL.revokeObjectURL(preview.src);
    preview.hidden = kind !== "image" || !blob;
    if (!preview.hidden) preview.src = URL.createObjectURL(blob);
  };
  preview.addEventListener("error", () => (preview.hidden = true));
  box.addEventListener("change", () => show(box.files[0]));
  const fill = (row) => {
    given = row?.b64 ?? "";
    box.value = "";
    box.required = false;
    const bytes = Uint8Array.from(atob(given), (character) => character.charCodeAt(0));
    hint.textContent = `the example's ${bytes.length} bytes, or choose another file`;
    show(new Blob([bytes]));
  };
  const json = async () => inRows(JSON.stringify({ b64: box.files.length ? await inBase64(box.files[0]) : given }));
  return { name, box, label, fill, json };
}

function inBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

function jsonField(name, type, value, toJson) {
  const shown = value.length > MOST_VALUES * 8 ? "" : value;
  const { box, label } = makeBox(name, `JSON, ${type}${shown ? "" : "; empty sends zeros"}`);
  box.className = "json";
  box.value = shown;
  // The text as typed, since it may hold integers and numbers that JavaScript cannot represent.
  return { name, box, label, fill: (row) => (box.value = toJson(row)), json: () => box.value.trim() || value };
}

function makeBox(name, hint) {
  const box = element("textarea", { rows: 2, dir: "auto", spellcheck: false, autocomplete: "off" });
  return { box, label: element("label", {}, element("span", {}, name), element("small", {}, hint), box) };
}

/** Returns a value for an example: a real step in a mask, an id that is probably a token, else zero. */
function first(dtype, rank) {
  if (dtype === "DT_BOOL") return String(rank > 1);
  return ZEROS[dtype] ?? (rank > 1 ? "1" : "0");
}

/** Returns the sizes of an example: one row, and some steps unless there would be too many values. */
function exampleSizes(sizes) {
  const some = sizes.map((size, axis) => (size > 0 ? size : axis === 1 ? STEPS : 1));
  return some.reduce((product, size) => product * size, 1) > MOST_VALUES
    ? sizes.map((size) => Math.max(1, size))
    : some;
}

function example(value, sizes) {
  return exampleSizes(sizes).reduceRight((inner, size) => `[${Array(size).fill(inner).join(", ")}]`, String(value));
}
