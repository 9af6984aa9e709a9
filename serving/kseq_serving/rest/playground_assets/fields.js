// Inputs of a signature: a text box for each, and the JSON of its content.

import { element } from "./element.js";

const MOST_VALUES = 1000; // of an example
const ZEROS = { DT_STRING: '""', DT_BOOL: "false", DT_FLOAT: "0.0", DT_DOUBLE: "0.0" };

/** Returns the call that runs a signature: predict, classify or regress. */
export function verbOf(signature) {
  const verb = signature.method_name.split("/").pop();
  return ["classify", "regress"].includes(verb) ? verb : "predict";
}

/** Returns the inputs of a signature, each `{name, box, label, json}`; `box` holds a text, or JSON if its class is "json". */
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
  // Inputs with rows get an example of one row.
  return { name, box, label, json: () => (rank ? `[${JSON.stringify(box.value)}]` : JSON.stringify(box.value)) };
}

function jsonField(name, type, value) {
  const { box, label } = makeBox(name, `JSON, ${type}`);
  box.className = "json";
  box.value = value;
  // The text as typed, since it may hold integers and numbers that JavaScript cannot represent.
  return { name, box, label, json: () => box.value };
}

function makeBox(name, hint) {
  const box = element("textarea", { rows: 2, dir: "auto", spellcheck: false, autocomplete: "off" });
  return { box, label: element("label", {}, element("span", {}, name), element("small", {}, hint), box) };
}

/** Returns zeros in the shape of an input; nothing if there would be too many. */
function example(dtype, sizes) {
  const least = sizes.map((size) => Math.max(1, size));
  if (least.reduce((product, size) => product * size, 1) > MOST_VALUES) return "";
  return least.reduceRight((inner, size) => `[${Array(size).fill(inner).join(", ")}]`, ZEROS[dtype] ?? "0");
}
