// What layers, colours and codes are called, in one place.

export const LAYERS = [
  ["virtual", "Virtual", "The ground without clouds on this date, measured where it was seen clear, else estimated."],
  ["observed", "Observed", "What the satellite measured on this day, clouds and all."],
  ["sd", "Uncertainty", "One standard deviation of the virtual image."],
  ["origin", "Origin", "Where each value comes from: measured that day, filled, or prior only."],
  ["age", "Age", "Days from this date to the nearest clear look."],
  ["difference", "Difference", "Virtual minus observed, where there are both."],
];
export const PICTURES = [["true-colour", "True colour"], ["false-colour", "False colour"]];
export const INDICES = [["ndvi", "NDVI"], ["evi", "EVI"], ["ndwi", "NDWI"], ["nbr", "NBR"]];
const ABOUT = {
  ndvi: "NDVI: how green the ground is", evi: "EVI: how green it is, also where plants are dense", ndwi: "NDWI: open water", nbr: "NBR: burnt ground and bare wood",
};
export const aboutMeasure = (name) => `${ABOUT[name] || `Reflectance in ${name}`}. Of curves, uncertainty and difference.`;
export const ORIGINS = ["observed that day", "filled, a clear look within 16 days", "filled, farther from any look", "prior only"];
export const SENSORS = { L30: "Landsat", S30: "Sentinel-2" };
export const STATES = {
  final: ["Final", "all later looks are in it"],
  provisional: ["Provisional", "later looks may still change it"],
  stale: ["Stale", "a look it was made from has been revised; it is made anew next night"],
  missing: ["Missing", "not made yet"],
};

const NAMES = Object.fromEntries([...PICTURES, ...INDICES]);
export const short = (show) => (INDICES.some(([name]) => name === show) ? show.toUpperCase() : NAMES[show] || show);
export const isPicture = (show) => PICTURES.some(([name]) => name === show);
export const isIndex = (show) => INDICES.some(([name]) => name === show);
export const layerName = (layer) => LAYERS.find(([name]) => name === layer)[1];

export const dayOf = (date) => Date.parse(`${date}T00:00:00Z`) / 86400000;
export const dateOf = (day) => new Date(Math.round(day) * 86400000).toISOString().slice(0, 10);
const LONG = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
export const longDate = (date) => LONG.format(new Date(`${date}T00:00:00Z`));
const SHORT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
export const shortDate = (date) => SHORT.format(new Date(`${date}T00:00:00Z`));
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const clearText = (look) => (look.clear === null ? "looked" : `${percent(look.clear)} clear`);
export const degrees = ([lon, lat], digits = 4) =>
  `${Math.abs(lat).toFixed(digits)}°\u00a0${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(digits)}°\u00a0${lon < 0 ? "W" : "E"}`;
export const rounded = (value) =>
  value === null || value === undefined ? "–" : value.toFixed(Math.abs(value) < 0.1 ? 4 : 3);

export const exact = (value) => (value === null || value === undefined ? "–" : value.toFixed(4)); // as fine as the store

export function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}
