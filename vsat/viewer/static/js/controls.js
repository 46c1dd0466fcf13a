// The choices at the side: region, layer, colours, measure, comparison, help.

import { INDICES, LAYERS, PICTURES, aboutMeasure, element } from "./words.js";

const option = ([value, text]) => element("option", { value }, text);
const group = (label, pairs) => element("optgroup", { label }, ...pairs.map(option));

export function startControls(at, set) {
  const buttons = LAYERS.map(([name, title]) =>
    element("button", { type: "button", role: "radio", "aria-checked": "false", tabindex: "-1", "data-layer": name, on: { click: () => set({ layer: name }) } }, title));
  at("layers").replaceChildren(...buttons);
  at("layers").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const to = buttons[(buttons.indexOf(event.target) + by + buttons.length) % buttons.length];
    to.focus();
    to.click();
  });
  at("region").addEventListener("change", (event) => set({ region: event.target.value, map: null, point: null, area: null }));
  at("show").addEventListener("change", (event) => set({ show: event.target.value }));
  at("measure").addEventListener("change", (event) => set({ measure: event.target.value }));
  at("swipe").addEventListener("change", (event) => set({ swipe: event.target.checked }));
  for (const view of ["map", "status"])
    at(`tab-${view}`).addEventListener("click", (event) => {
      event.preventDefault();
      set({ view });
    });
  at("help-open").addEventListener("click", () => at("help").showModal());
  at("help-close").addEventListener("click", () => at("help").close());
  at("help").addEventListener("click", (event) => event.target === at("help") && at("help").close());

  return {
    load(regions, region, state) {
      at("region").replaceChildren(...regions.map((one) => option([one.id, one.id])));
      at("region").value = region.id;
      const bands = region.bands.map((band) => [band, band]);
      at("show").replaceChildren(group("Pictures", PICTURES), group("Indices", INDICES), group("Bands", bands));
      at("measure").replaceChildren(group("Indices", INDICES), group("Bands", bands));
      this.show(state);
    },
    show(state) {
      for (const button of buttons) {
        const chosen = button.dataset.layer === state.layer;
        button.setAttribute("aria-checked", String(chosen));
        button.tabIndex = chosen ? 0 : -1;
      }
      at("layer-text").textContent = LAYERS.find(([name]) => name === state.layer)[2];
      at("show").value = state.show;
      at("show").disabled = !state.swipe && !["virtual", "observed"].includes(state.layer);
      at("measure").value = state.measure;
      at("measure-text").textContent = aboutMeasure(state.measure);
      if (state.point) [at("lon").value, at("lat").value] = state.point.map((one) => one.toFixed(5));
      at("swipe").checked = state.swipe;
      for (const view of ["map", "status"])
        if (view === state.view) at(`tab-${view}`).setAttribute("aria-current", "page");
        else at(`tab-${view}`).removeAttribute("aria-current");
    },
  };
}
