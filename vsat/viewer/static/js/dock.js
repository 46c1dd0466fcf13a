// The curve of a place or the mean of an area, under the map.

import * as api from "./api.js";
import { createChart } from "./chart.js";
import { ORIGINS, SENSORS, degrees, element, exact, percent, rounded, short } from "./words.js";

const SHAPES = { L30: ["circle", "l30"], S30: ["square", "s30"] };
const HELD_90 = 1.6449; // standard deviations to either side that hold nine tenths of a normal distribution

const KEYS = {
  band50: '<svg viewBox="0 0 22 12"><path d="M0 1h22v10H0z" fill="var(--band90)"/><path d="M0 3.5h22v5H0z" fill="var(--band50)"/></svg>',
  line: '<svg viewBox="0 0 22 12"><path d="M0 6h22" stroke="var(--curve)" stroke-width="2.2"/></svg>',
  l30: '<svg viewBox="0 0 22 12"><circle cx="11" cy="6" r="4" fill="var(--l30)"/></svg>',
  s30: '<svg viewBox="0 0 22 12"><path d="M7.4 2.4h7.2v7.2H7.4z" fill="var(--s30)"/></svg>',
  hollow: '<svg viewBox="0 0 22 12"><circle cx="6" cy="6" r="3.2" fill="none" stroke="var(--l30)" stroke-width="1.3"/><path d="M13 3h6v6h-6z" fill="none" stroke="var(--s30)" stroke-width="1.3"/></svg>',
  wide: '<svg viewBox="0 0 22 12"><path d="M0 1h22v10H0z" fill="var(--band90)"/></svg>',
  tight: '<svg viewBox="0 0 22 12"><path d="M0 3h22v6H0z" fill="var(--band50)"/></svg>',
  spread: '<svg viewBox="0 0 22 12"><path d="M0 3h22M0 9h22" stroke="var(--faint)" stroke-width="1.3" stroke-dasharray="2 3"/></svg>',
  strip: (colours) => `<svg viewBox="0 0 22 12">${colours.map((one, i) => `<path d="M${(i * 22) / colours.length} 3h${22 / colours.length}v6H${(i * 22) / colours.length}z" fill="${one}"/>`).join("")}</svg>`,
};

export function createDock(parts, calls) {
  const chart = createChart(parts.plot, parts.spoken, calls.chosen);
  let running = null;
  let shown = null; // what is drawn, so that nothing is asked for twice
  let link = null;

  async function load(key, ask, draw) {
    if (key === shown) return;
    shown = key;
    running?.abort();
    running = new AbortController();
    const mine = running;
    parts.dock.hidden = false;
    parts.plot.classList.add("busy");
    try {
      const answer = await ask(mine.signal);
      if (mine.signal.aborted) return;
      draw(answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = null;
      calls.failed(error);
    } finally {
      if (running === mine) parts.plot.classList.remove("busy");
    }
  }

  function table(head, rows) {
    const cells = (tag, values) => element("tr", {}, ...values.map((value) => element(tag, tag === "th" ? { scope: "col" } : {}, String(value))));
    parts.table.replaceChildren(element("thead", {}, cells("th", head)), element("tbody", {}, ...rows.map((row) => cells("td", row))));
  }

  function keys(pairs) {
    parts.keys.replaceChildren(...pairs.map(([picture, text]) => {
      const item = element("li");
      item.innerHTML = picture; // one of the pictures above
      item.append(text);
      return item;
    }));
  }

  function drawPlace(answer, place, measure, origins) {
    const { observed, virtual, unit } = answer;
    const clear = observed.filter((one) => one.clear && one.value !== null);
    const masked = observed.filter((one) => !one.clear);
    parts.title.textContent = `${short(measure)} at ${degrees(place)}`;
    parts.facts.textContent = `tile ${answer.tile}, row ${answer.row}, column ${answer.col} · ${clear.length} clear looks, ${masked.length} masked, ${virtual.length} images${unit === "reflectance" ? " · reflectance" : ""}`;
    const dates = virtual.map((one) => one.date);
    const of = (name) => virtual.map((one) => one[name]);
    const estimate = new Map(virtual.map((one) => [one.date, one]));
    const looks = byDate(observed);
    const about = (date) => {
      const one = estimate.get(date);
      const told = [];
      if (one && one.value !== null)
        told.push(["virtual", `${rounded(one.value)} ± ${rounded(one.sd)}`], ["50 % interval", `${rounded(one.q25)} to ${rounded(one.q75)}`], ["90 % interval", `${rounded(one.q05)} to ${rounded(one.q95)}`], ["origin", ORIGINS[one.origin] || "no value"], ["state", one.status + (one.low_confidence ? ", low confidence" : "")]);
      for (const look of looks.get(date) || []) told.push([`${SENSORS[look.sensor] || look.sensor}`, look.clear ? rounded(look.value) : `masked: ${look.why || "unknown"}`]);
      return told.length ? told : [["no value", ""]];
    };
    chart.show({
      unit, about,
      bands: [{ dates, low: of("q05"), high: of("q95"), colour: "band90" }, { dates, low: of("q25"), high: of("q75"), colour: "band50" }],
      lines: [{ dates, values: of("value"), colour: "curve", width: 2.2 }],
      points: observed.map((one) => ({ date: one.date, value: one.value, shape: (SHAPES[one.sensor] || SHAPES.S30)[0], colour: (SHAPES[one.sensor] || SHAPES.S30)[1], hollow: !one.clear })),
      strip: virtual.filter((one) => origins[one.origin]).map((one) => ({ date: one.date, colour: origins[one.origin] })),
    });
    parts.plot.setAttribute("aria-label", `Curve of ${short(measure)} at ${degrees(place)}. Arrow keys go through its dates.`);
    keys([
      [KEYS.line, "virtual"], [KEYS.band50, "50 % and 90 % intervals"], [KEYS.l30, "Landsat, clear"], [KEYS.s30, "Sentinel-2, clear"],
      [KEYS.hollow, "masked: cloud, shadow, snow"], [KEYS.strip(origins), "origin, from observed to prior only"],
    ]);
    table(["Date", "Source", "Value", "Standard deviation", "5 %", "25 %", "75 %", "95 %", "Origin or mask"], [
      ...virtual.map((one) => [one.date, "virtual", exact(one.value), exact(one.sd), exact(one.q05), exact(one.q25), exact(one.q75), exact(one.q95), ORIGINS[one.origin] || "no value"]),
      ...observed.map((one) => [one.date, SENSORS[one.sensor] || one.sensor, exact(one.value), "–", "–", "–", "–", "–", one.clear ? "clear" : `masked: ${one.why || "unknown"}`]),
    ].sort((a, b) => (a[0] < b[0] ? -1 : 1)));
  }

  function drawArea(answer, measure, origins) {
    const held = answer.dates.filter((one) => one.mean !== null);
    const dates = held.map((one) => one.date);
    const around = (name, sign) => held.map((one) => one.mean + sign * HELD_90 * one[name]);
    const of = (name) => held.map((one) => one[name]);
    parts.title.textContent = `${short(measure)}, mean of the area`;
    parts.facts.textContent = `${answer.pixels.toLocaleString("en")} pixels, ${answer.hectares.toFixed(1)} ha · ${held.length} images${answer.unit === "reflectance" ? " · reflectance" : ""}`;
    const by = new Map(held.map((one) => [one.date, one]));
    const about = (date) => {
      const one = by.get(date);
      return [
        ["mean", `${rounded(one.mean)} ± ${rounded(one.sd)}`], ["± if errors are independent", rounded(one.sd_independent)],
        ["pixels, 10 to 90 %", `${rounded(one.p10)} to ${rounded(one.p90)}`], ["observed that day", percent(one.origins[0])], ["prior only", percent(one.origins[3])],
      ];
    };
    const main = (one) => one.origins.indexOf(Math.max(...one.origins));
    chart.show({
      unit: answer.unit, about, points: [],
      bands: [{ dates, low: around("sd", -1), high: around("sd", 1), colour: "band90" }, { dates, low: around("sd_independent", -1), high: around("sd_independent", 1), colour: "band50" }],
      lines: [{ dates, values: of("mean"), colour: "curve", width: 2.2 }, { dates, values: of("p10"), colour: "faint", dash: [2, 4], width: 1.2 }, { dates, values: of("p90"), colour: "faint", dash: [2, 4], width: 1.2 }],
      strip: held.filter((one) => origins[main(one)]).map((one) => ({ date: one.date, colour: origins[main(one)] })),
    });
    parts.plot.setAttribute("aria-label", `Mean of ${short(measure)} in the area. Arrow keys go through its dates.`);
    keys([
      [KEYS.line, "mean of the virtual images"], [KEYS.wide, "90 % interval, errors alike in the whole area"], [KEYS.tight, "90 % interval, errors independent"],
      [KEYS.spread, "pixels, 10 to 90 %"], [KEYS.strip(origins), "most frequent origin"],
    ]);
    table(["Date", "Mean", "Standard deviation", "If independent", "10 %", "90 %", "Observed that day", "Prior only", "Pixels"],
      held.map((one) => [one.date, exact(one.mean), exact(one.sd), exact(one.sd_independent), exact(one.p10), exact(one.p90), percent(one.origins[0]), percent(one.origins[3]), one.values]));
  }

  parts.csv.addEventListener("click", async (event) => {
    if (!link) return; // an ordinary link
    event.preventDefault();
    try {
      const address = URL.createObjectURL(await link());
      element("a", { href: address, download: "area.csv" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    } catch (error) {
      calls.failed(error);
    }
  });

  return {
    place(region, place, measure, origins) {
      link = null;
      parts.csv.href = api.seriesPath(region, place, measure, "csv");
      parts.csv.setAttribute("download", `${region}-${measure}-${place.map((one) => one.toFixed(5)).join("-")}.csv`);
      return load(`${region} ${place} ${measure}`, (signal) => api.series(region, place, measure, signal), (answer) => drawPlace(answer, place, measure, origins));
    },
    area(region, corners, measure, origins) {
      link = () => api.statisticsCsv(region, corners, measure);
      parts.csv.href = "#csv";
      return load(`${region} ${corners.join(" ")} ${measure}`, (signal) => api.statistics(region, corners, measure, signal), (answer) => drawArea(answer, measure, origins));
    },
    close() {
      running?.abort();
      shown = null;
      chart.clear();
      parts.dock.hidden = true;
    },
    today: (date) => chart.today(date),
    draw: () => chart.draw(),
  };
}

function byDate(observed) {
  const found = new Map();
  for (const one of observed) found.set(one.date, [...(found.get(one.date) || []), one]);
  return found;
}
