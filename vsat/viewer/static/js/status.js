// The status view: which tile has an image of which date, and how the last night went.

import * as api from "./api.js";
import { STATES, element, longDate, shortDate } from "./words.js";

const SIGNS = { final: "●", provisional: "○", stale: "!", missing: "–" };
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });

export async function drawStatus(node, region, opened) {
  const told = await api.status(region);
  const counts = {};
  for (const row of told.grid) for (const state of row) counts[state] = (counts[state] || 0) + 1;
  node.replaceChildren(element("div", {},
    element("h2", {}, `Status of ${region}`),
    element("section", { class: "card", "aria-labelledby": "night-title" }, element("h3", { id: "night-title" }, "The last night"), night(told)),
    element("section", { class: "card", "aria-labelledby": "grid-title" },
      element("h3", { id: "grid-title" }, "Images by tile and date"),
      told.dates.length ? grid(told, opened) : element("p", { class: "faint" }, "No image yet. The nightly flow makes them, or vsat generate."),
      element("ul", { class: "keys status-keys" }, ...Object.entries(STATES).map(([state, [name, text]]) =>
        element("li", {}, element("span", { class: `cell ${state}`, "aria-hidden": "true" }, SIGNS[state]), `${name} (${counts[state] || 0}): ${text}`))))));
}

const isDate = (text) => /^\d{4}-\d\d-\d\d$/.test(text);

const MAIN = ["scenes_fetched", "images_made", "images_failed"];
const named = (name) => name.replaceAll("_", " ");

function night(told) {
  if (!told.night) return element("p", { class: "faint" }, "No night has run yet.");
  const { day, outcome, exit_code: code, message } = told.night;
  const counts = Object.entries(told.night.counts || {}).filter(([, value]) => typeof value === "number");
  const pairs = [
    ["night of", isDate(day) ? shortDate(day) : day], ["outcome", code ? `${outcome} (exit code ${code})` : outcome],
    ["complete up to", isDate(told.watermark) ? shortDate(told.watermark) : told.watermark || "–"],
    ...counts.filter(([name]) => MAIN.includes(name)).map(([name, value]) => [named(name), value]),
  ];
  const others = counts.filter(([name]) => !MAIN.includes(name)).map(([name, value]) => `${named(name)} ${value}`);
  return element("div", {}, message ? element("p", { class: "message" }, message) : "",
    element("dl", { class: "figures" }, ...pairs.map(([name, value]) =>
      element("div", {}, element("dt", {}, name[0].toUpperCase() + name.slice(1)), element("dd", {}, String(value))))),
    others.length ? element("p", { class: "faint" }, `Also: ${others.join(", ")}.`) : "");
}

function grid(told, opened) {
  const months = [];
  told.dates.forEach((date) => {
    const name = MONTH.format(new Date(`${date}T00:00:00Z`));
    if (months.at(-1)?.[0] === name) months.at(-1)[1] += 1;
    else months.push([name, 1]);
  });
  const firsts = new Set(told.dates.filter((date, i) => i === 0 || date.slice(0, 7) !== told.dates[i - 1].slice(0, 7)));
  const table = element("table", { class: "grid", role: "grid", "aria-labelledby": "grid-title" },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Tile"), ...months.map(([name, wide]) => element("th", { colspan: wide, scope: "colgroup", style: "padding-left:7px" }, name)))),
    element("tbody", {}, ...told.tiles.map((tile, row) => element("tr", {}, element("th", { scope: "row" }, tile), ...told.dates.map((date, col) => {
      const state = told.grid[col][row];
      const text = `${tile}, ${longDate(date)}: ${STATES[state]?.[0].toLowerCase() || state}`;
      return element("td", { role: "gridcell", tabindex: row + col ? "-1" : "0", "data-date": date, "data-state": state, "aria-label": text, title: text, class: firsts.has(date) ? "first" : "" },
        element("span", { class: `cell ${state}`, "aria-hidden": "true" }, SIGNS[state] || "?"));
    })))));
  const open = (cell) => cell && cell.dataset.state !== "missing" && opened(cell.dataset.date);
  table.addEventListener("click", (event) => open(event.target.closest("td")));
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    if (event.key === "Enter") return open(cell);
    const rows = [...table.tBodies[0].rows];
    const row = rows.indexOf(cell.parentElement);
    const to = { ArrowLeft: cell.previousElementSibling, ArrowRight: cell.nextElementSibling, ArrowUp: rows[row - 1]?.cells[cell.cellIndex], ArrowDown: rows[row + 1]?.cells[cell.cellIndex], Home: cell.parentElement.cells[1], End: cell.parentElement.lastElementChild }[event.key];
    if (to?.tagName !== "TD") return;
    event.preventDefault();
    cell.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  return element("div", { class: "grid-scroll" }, table);
}
