// The page: one state, kept in the address; every change of it draws what it changes.

import * as api from "./api.js";
import { startControls } from "./controls.js";
import { createDock } from "./dock.js";
import { drawLegend, fetchLegend } from "./legend.js";
import { createMap } from "./map.js";
import { createPlayer } from "./player.js";
import { DEFAULTS, readHash, writeHash } from "./state.js";
import { drawStatus } from "./status.js";
import { startTheme } from "./theme.js";
import { createTimeline } from "./timeline.js";
import { SENSORS, element, isIndex, isPicture, clearText, dateOf, dayOf, layerName, longDate, percent, shortDate } from "./words.js";
import { createDrawing } from "./drawing.js";

const at = (id) => document.getElementById(id);
const state = { ...DEFAULTS, ...readHash() };
let held = []; // the regions
let region = null; // the one shown, with its dates and looks
let origins = [];

function failed(error) {
  at("alert-text").textContent = error.message;
  at("alert").hidden = false;
}

const controls = startControls(at, set);
const timeline = createTimeline({ track: at("track"), svg: at("ticks"), input: at("date"), hint: at("track-hint"), span: at("span"), spanField: at("span-field") }, (date) => set({ date }));
const dock = createDock(
  { dock: at("dock"), title: at("dock-title"), facts: at("dock-facts"), plot: at("plot"), spoken: at("plot-now"), keys: at("plot-keys"), table: at("values-table"), csv: at("csv") },
  { chosen: (date) => set({ date: timeline.nearest(date) }), failed },
);
const map = createMap(at("map"), {
  moved: (view) => {
    state.map = view;
    writeHash(state);
  },
  picked: (place) => (drawing.on ? drawing.add(place) : pick(place)),
  finished: () => drawing.on && drawing.finish(),
  hovered: (place) => drawing.on && drawing.hover(place),
  keyed: (event) => (drawing.on ? drawing.key(event) : event.key === "Enter" && pick(map.centre())),
  swiped: (to) => {
    state.at = to;
    writeHash(state);
  },
  failed: () => failed(new Error("A part of the picture could not be loaded.")),
});
const drawing = createDrawing({ at, map, marked: () => mark(), drawn: (area) => set({ area, point: null }) });
const player = createPlayer({ button: at("play"), speed: at("speed") }, async () => {
  const next = timeline.step(1, state.date) || timeline.nearest("0001-01-01");
  set({ date: next });
  await shown;
  return next !== null;
});

function pick(place) {
  const [west, south, east, north] = region.bounds;
  const fromWest = (place[0] - west + 360) % 360; // regions may cross 180 degrees
  if (fromWest > (east - west + 360) % 360 || place[1] < south || place[1] > north) return failed(new Error("This place is outside the region."));
  at("alert").hidden = true;
  set({ point: place, area: null });
}

/** Changes the state and draws what follows from it. */
function set(changes) {
  const before = { ...state };
  Object.assign(state, changes);
  if (changes.show && !isPicture(changes.show)) state.measure = changes.show; // who looks at NDVI wants its curve
  const changed = (...names) => names.some((name) => state[name] !== before[name]);
  if (changed("region")) return load(state.region);
  if (region) draw(changed);
  writeHash(state);
}

let shown = Promise.resolve();
function draw(changed) {
  if (changed("view")) {
    at("map-view").hidden = state.view !== "map";
    at("status-view").hidden = state.view !== "status";
    if (state.view !== "map") player.stop();
  }
  if (state.view === "status" && changed("view", "region")) drawStatus(at("status-view"), region.id, (date) => set({ view: "map", date })).catch(failed);
  if (changed("layer", "swipe", "region")) timeline.stopAt(stops());
  if (changed("point", "area", "measure", "region")) {
    if (state.point) dock.place(region.id, state.point, state.measure, origins);
    else if (state.area) dock.area(region.id, state.area, state.measure, origins);
    else dock.close();
    map.resized(); // the curve takes room from the map
  }
  const date = timeline.nearest(state.date || "9999-12-31");
  state.date = date;
  controls.show(state);
  if (changed("layer", "show", "measure", "swipe", "date", "region", "view")) {
    if (date) {
      timeline.set(date);
      shown = pictures();
      facts();
    } else nothing();
    links();
    const { layer, show } = main();
    drawLegend(at("legend"), region.id, layer, show).catch(failed);
  }
  if (changed("swipe", "layer", "region")) map.swipe.set(state.swipe, state.at, "Observed", layerName(main().layer));
  if (changed("point", "area", "region")) mark();
  dock.today(date);
}

/** The layer that is shown, and in which colours; at the right of the divider where there is one. */
function main() {
  const layer = state.swipe && state.layer === "observed" ? "virtual" : state.layer;
  const show = ["virtual", "observed"].includes(layer) ? state.show : ["sd", "difference"].includes(layer) ? state.measure : "";
  return { layer, show };
}

function stops() {
  const images = region.dates.map((one) => one.date);
  return state.layer === "observed" && !state.swipe ? [...new Set([...images, ...timeline.lookDates()])] : images;
}

/** Shows the pictures; where the satellite did not look, there is no picture of what it saw, and none is asked for. */
function pictures() {
  const { layer, show } = main();
  const looked = timeline.looksOn(state.date).length > 0;
  const left = state.swipe && looked ? api.tilePath(region.id, "observed", state.date, state.show) : null;
  const right = looked || !["observed", "difference"].includes(layer) ? api.tilePath(region.id, layer, state.date, show) : null;
  const wanted = [layer, show, state.date, state.swipe && "swipe"].filter(Boolean).join(" ");
  return map.show({ right, left }).then(() => (at("map").dataset.picture = wanted)); // what is on the screen, for who waits for it
}

function mark() {
  map.mark({ point: state.point, area: state.area, corners: drawing.corners, next: drawing.next });
}

/** What is known of the date, beside the slider and over the map. */
function facts() {
  const image = timeline.imageOn(state.date);
  const looks = timeline.looksOn(state.date);
  at("date-text").textContent = longDate(state.date);
  const seen = looks.map((look) => `${SENSORS[look.sensor] || look.sensor} ${clearText(look)}`).join(", ");
  at("date-facts").textContent = [image && image.status, seen || "no satellite looked", image?.observed > 0 && `${percent(image.observed)} of the image observed`].filter(Boolean).join(" · ");
  at("date-facts").title = at("date-facts").textContent;
  at("date-back").disabled = !timeline.step(-1, state.date);
  at("date-next").disabled = !timeline.step(1, state.date);
  const notes = [];
  const needsLook = state.swipe || ["observed", "difference"].includes(state.layer);
  if (needsLook && !looks.length) notes.push(element("div", {}, "No look on this day.", nearestLook()));
  at("seen").replaceChildren(...notes);
}

/** What is told where the region has no image at all. */
function nothing() {
  at("date-text").textContent = "No image yet";
  at("date-facts").textContent = "";
  for (const id of ["date-back", "date-next"]) at(id).disabled = true;
  at("seen").replaceChildren(element("div", {}, "No virtual image yet: the nightly flow makes them, or vsat generate."));
}

function nearestLook() {
  const stops = state.layer === "observed" && !state.swipe ? timeline.lookDates() : region.dates.map((one) => one.date).filter((date) => timeline.looksOn(date).length);
  if (!stops.length) return "";
  const here = dayOf(state.date);
  const to = stops.reduce((best, one) => (Math.abs(dayOf(one) - here) < Math.abs(dayOf(best) - here) ? one : best));
  return element("button", { class: "plain", type: "button", on: { click: () => set({ date: to }) } }, `Go to ${shortDate(to)}`);
}

/** The address of the GIF: of what the slider shows, of a long record its last year. */
function links() {
  const gif = at("gif");
  const [from, to] = timeline.stretch();
  const dates = region.dates.map((one) => one.date).filter((date) => date >= from && date <= to);
  if (!dates.length) return gif.removeAttribute("href");
  const end = dates.at(-1);
  const start = [dates[0], dateOf(dayOf(end) - 366)].sort().at(-1);
  gif.href = api.gifPath(region.id, { show: state.show, start, end });
  gif.title = `Animation of the virtual images from ${longDate(start)} to ${longDate(end)}`;
}

async function load(id) {
  try {
    const known = held.find((one) => one.id === id) || held[0];
    if (!known) return failed(new Error("No region is served here. Start with: vsat serve regions/demo.yaml"));
    player.stop();
    region = await api.region(known.id);
    origins = (await fetchLegend(known.id, "origin", "")).classes.slice(0, 4).map((one) => one.colour);
    state.region = known.id;
    controls.load(held, region, state);
    if (!isIndex(state.measure) && !region.bands.includes(state.measure)) state.measure = DEFAULTS.measure;
    if (!isIndex(state.show) && !isPicture(state.show) && !region.bands.includes(state.show)) state.show = DEFAULTS.show;
    timeline.load(region);
    at("map-view").hidden = state.view !== "map";
    map.showRegion(region, state.map);
    draw(() => true);
    writeHash(state);
  } catch (error) {
    failed(error);
  }
}

startTheme(at("theme"), () => {
  timeline.draw();
  dock.draw();
});
at("alert-close").addEventListener("click", () => (at("alert").hidden = true));
at("dock-close").addEventListener("click", () => {
  set({ point: null, area: null });
  at("map").focus();
});
at("span").addEventListener("change", links);
for (const [id, by] of [["date-back", -1], ["date-next", 1]])
  at(id).addEventListener("click", () => {
    const date = timeline.step(by, state.date);
    if (date) set({ date });
  });
at("place").addEventListener("submit", (event) => {
  event.preventDefault();
  const place = [at("lon"), at("lat")].map((input) => (input.value.trim() === "" ? NaN : Number(input.value.replace(",", "."))));
  if (place.every(Number.isFinite)) pick(place);
  else failed(new Error("Write longitude and latitude in degrees, such as 14.25 and 48.15."));
});
window.addEventListener("hashchange", () => {
  const read = readHash();
  const stays = !read.region || read.region === state.region;
  set({ ...DEFAULTS, region: state.region, map: stays ? state.map : null, ...read });
  if (stays && read.map) map.map.setView([read.map.lat, read.map.lon], read.map.zoom);
  map.swipe.move(state.at, false);
});

try {
  held = (await api.regions()).regions;
  await load(state.region);
  document.documentElement.dataset.ready = "true";
} catch (error) {
  failed(error);
}
