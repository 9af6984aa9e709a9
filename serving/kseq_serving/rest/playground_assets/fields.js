// The inputs of a signature: a box for each, and what it says as JSON.

import { element } from "./element.js";

const MOST_VALUES = 1000; // of an example
const ZEROS = { DT_STRING: '""', DT_BOOL: "false", DT_FLOAT: "0.0", DT_DOUBLE: "0.0" };

/** How a signature is asked: predict, classify or regress. */
export function verbOf(signature) {
  const verb = signature.method_name.split("/").pop();
  return ["classify", "regress"].includes(verb) ? verb : "predict";
}

/** The inputs of a signature, each `{name, box, label, json}`; `box` holds a text, or JSON if its class is "json". */
export function fieldsOf(signature) {
  if (verbOf(signature) !== "predict") return [jsonField("examples", "the features of each", '[{"x": 1.0}]')];
  return Object.keys(signature.inputs).sort().map((name) => {
    const { dtype, tensor_shape: shape } = signature.inputs[name];
    const sizes = shape.unknown_rank ? [-1] : shape.dim.map(({ size }) => Number(size));
    const isText = dtype === "DT_STRING" && sizes.length < 2 && sizes.every((size) => Math.abs(size) === 1);
    if (isText) return textField(name, sizes.length);
    const type = `${dtype.replace("DT_", "").toLowerCase()} (${sizes.join(", ").replaceAll("-1", "?")})`;
    return jsonField(name, type, example(dtype, sizes));
  });
}

function textField(name, rank) {
  const { box, label } = makeBox(name, "Enter asks, Shift+Enter begins a line");
  // One row, where there are rows.
  return { name, box, label, json: () => (rank ? `[${JSON.stringify(box.value)}]` : JSON.stringify(box.value)) };
}

function jsonField(name, type, value) {
  const { box, label } = makeBox(name, `JSON, ${type}`);
  box.className = "json";
  box.value = value;
  // As it was typed: it may hold integers and numbers that JavaScript has not.
  return { name, box, label, json: () => box.value };
}

function makeBox(name, hint) {
  const box = element("textarea", { rows: 2, dir: "auto", spellcheck: false, autocomplete: "off" });
  return { box, label: element("label", {}, element("span", {}, name), element("small", {}, hint), box) };
}

/** Zeros that fit an input; nothing where these were too many to read. */
function example(dtype, sizes) {
  const least = sizes.map((size) => Math.max(1, size));
  if (least.reduce((product, size) => product * size, 1) > MOST_VALUES) return "";
  return least.reduceRight((inner, size) => `[${Array(size).fill(inner).join(", ")}]`, ZEROS[dtype] ?? "0");
}
