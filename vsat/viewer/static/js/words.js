// What layers, colours and codes are called, in one place.

export const LAYERS = [
  ["virtual", "Virtual", "The ground without clouds on this date, measured where it was seen clear, else estimated."],
  ["observed", "Observed", "What the satellite measured on this day, where it saw the ground."],
  ["sd", "Uncertainty", "One standard deviation of the virtual image."],
  ["origin", "Origin", "Where each value comes from: measured that day, filled, or prior only."],
  ["age", "Age", "Days from this date to the nearest clear look."],
  ["difference", "Difference", "Virtual minus observed, where there are both."],
];
export const PICTURES = [["true-colour", "True colour"], ["false-colour", "False colour (nir, red, green)"]];
export const INDICES = [["ndvi", "NDVI, greenness"], ["evi", "EVI, greenness"], ["ndwi", "NDWI, open water"], ["nbr", "NBR, burnt ground"]];
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
export const percent = (share) => `${Math.round(100 * share)} %`;
export const degrees = ([lon, lat], digits = 4) =>
  `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(digits)}° ${lon < 0 ? "W" : "E"}`;
export const rounded = (value) =>
  value === null || value === undefined ? "–" : value.toFixed(Math.abs(value) < 0.1 ? 4 : 3);

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
