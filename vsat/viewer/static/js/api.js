// The server's answers, and its refusals as errors that people can read.

export class Problem extends Error {
  constructor(title, detail, status) {
    super(detail || title);
    this.title = title;
    this.status = status;
  }
}

export const query = (values) => {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length ? "?" + new URLSearchParams(kept) : "";
};

const regionPath = (region) => `/api/regions/${encodeURIComponent(region)}`;

async function answer(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("No answer", "The server gives no answer. Is vsat serve still running?", 0);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Problem(told.title || response.statusText, told.detail || `${response.status} for ${path}`, response.status);
}

const json = async (path, options) => (await answer(path, options)).json();
const body = (value, signal) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value), signal,
});

export const regions = () => json("/api/regions");
export const region = (id) => json(regionPath(id));
export const status = (id) => json(`${regionPath(id)}/status`);
export const legend = (id, layer, show) => json(`${regionPath(id)}/legend/${layer}${query({ show })}`);

export const seriesPath = (id, place, show, format) =>
  `${regionPath(id)}/series${query({ lon: place[0].toFixed(6), lat: place[1].toFixed(6), show, format })}`;
export const series = (id, place, show, signal) => json(seriesPath(id, place, show), { signal });

const asPolygon = (corners) => ({ type: "Polygon", coordinates: [[...corners, corners[0]]] });
export const statistics = (id, corners, show, signal) =>
  json(`${regionPath(id)}/statistics`, body({ geometry: asPolygon(corners), show }, signal));
export const statisticsCsv = async (id, corners, show) =>
  (await answer(`${regionPath(id)}/statistics?format=csv`, body({ geometry: asPolygon(corners), show }))).blob();

export const tilePath = (id, layer, date, show) =>
  `${regionPath(id)}/tiles/${layer}/${date}/{z}/{x}/{y}.png${query({ show, scale: window.devicePixelRatio > 1 ? 2 : "" })}`;
export const gifPath = (id, values) => `${regionPath(id)}/animation.gif${query(values)}`;
