// What is shown, kept in the address, so that a link shows another person the same.

export const DEFAULTS = {
  view: "map", region: null, date: null, layer: "virtual", show: "true-colour", measure: "ndvi",
  swipe: false, at: 50, map: null, point: null, area: null,
};
const LAYER_NAMES = ["virtual", "observed", "sd", "origin", "age", "difference"];

const numbers = (text) => text.split(",").map(Number);
const isPlace = (place) =>
  place.length === 2 && place.every(Number.isFinite) && Math.abs(place[0]) <= 180 && Math.abs(place[1]) <= 90;

const READ = {
  view: (text) => (["map", "status"].includes(text) ? text : undefined),
  region: (text) => text,
  date: (text) => (/^\d{4}-\d\d-\d\d$/.test(text) ? text : undefined),
  layer: (text) => (LAYER_NAMES.includes(text) ? text : undefined),
  show: (text) => (/^[a-z0-9-]+$/.test(text) ? text : undefined),
  measure: (text) => (/^[a-z0-9-]+$/.test(text) ? text : undefined),
  swipe: (text) => text === "1",
  at: (text) => (Number(text) >= 0 && Number(text) <= 100 ? Number(text) : undefined),
  map: (text) => {
    const [zoom, lat, lon] = text.split("/").map(Number);
    return Number.isFinite(zoom) && isPlace([lon, lat]) ? { zoom, lat, lon } : undefined;
  },
  point: (text) => (isPlace(numbers(text)) ? numbers(text) : undefined),
  area: (text) => {
    const corners = text.split(";").map(numbers);
    return corners.length >= 3 && corners.every(isPlace) ? corners : undefined;
  },
};
const WRITE = {
  swipe: (value) => (value ? "1" : ""),
  at: (value) => String(Math.round(value)),
  map: ({ zoom, lat, lon }) => `${zoom}/${lat.toFixed(5)}/${lon.toFixed(5)}`,
  point: (place) => place.map((one) => one.toFixed(5)).join(","),
  area: (corners) => corners.map((place) => place.map((one) => one.toFixed(5)).join(",")).join(";"),
};

export function readHash() {
  const found = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const value = READ[name]?.(text);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

export function hashOf(state) {
  const parts = [];
  for (const [name, value] of Object.entries(state)) {
    if (value === null || value === DEFAULTS[name]) continue;
    const text = (WRITE[name] || String)(value);
    if (text !== "") parts.push(`${name}=${encodeURIComponent(text).replaceAll("%2F", "/").replaceAll("%2C", ",").replaceAll("%3B", ";")}`);
  }
  return "#" + parts.join("&");
}

let waiting = null;
export function writeHash(state) {
  clearTimeout(waiting); // browsers refuse more than some hundred changes of the address a minute
  waiting = setTimeout(() => history.replaceState(null, "", hashOf(state)), 150);
}
