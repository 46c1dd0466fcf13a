// What the colours of the map mean.

import * as api from "./api.js";
import { element, isPicture, short } from "./words.js";

const cache = new Map();
const PICTURE_TEXTS = { "true-colour": "The colours the eye would see.", "false-colour": "Near infrared as red: the greener the plants, the redder." };

export async function fetchLegend(region, layer, show) {
  const key = `${region} ${layer} ${show}`;
  if (!cache.has(key)) cache.set(key, await api.legend(region, layer, show));
  return cache.get(key);
}

const entry = (kind, text, style) => element("li", {}, element("span", { class: `swatch ${kind}`, style }), text);

export async function drawLegend(node, region, layer, show) {
  const inside = [];
  if (["virtual", "observed"].includes(layer) && isPicture(show)) {
    inside.push(element("p", { class: "faint" }, PICTURE_TEXTS[show] || ""));
  } else {
    const told = await fetchLegend(region, layer, show);
    if (told.kind === "continuous") {
      const mid = (told.min + told.max) / 2;
      inside.push(element("div", {},
        element("div", { class: "ramp", style: `background:linear-gradient(90deg,${told.colours.join(",")})` }),
        element("div", { class: "ramp-ends" }, ...[told.min, mid, told.max].map((value) => element("span", {}, number(value)))),
        element("p", { class: "faint" }, unitText(layer, show, told.unit))));
    } else {
      inside.push(element("ul", { class: "classes" }, ...told.classes.map((one) => entry("", one.label, `background:${one.colour}`))));
    }
  }
  const marks = [];
  if (["virtual", "sd"].includes(layer)) marks.push(entry("hatch", "Hatched: prior only, no clear look supports it"));
  marks.push(entry("nothing", layer === "observed" || layer === "difference" ? "Empty: the ground was not seen" : "Empty: no value"));
  inside.push(element("ul", { class: "classes" }, ...marks));
  node.replaceChildren(...inside);
}

const number = (value) => String(Number(value.toFixed(3))).replace("-", "−");
const unitText = (layer, show, unit) => {
  const measure = short(show) + (unit === "reflectance" ? ", reflectance" : "");
  return { sd: `standard deviation of ${measure}`, age: unit, difference: `virtual minus observed, ${measure}` }[layer] ?? measure;
};
