// A curve over time: bands of what the truth is held to be, a line, and what the satellites measured.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { colour } from "./theme.js";
import { dateOf, dayOf, element, longDate } from "./words.js";

const DAY_S = 86400;

/**
 * Draws a curve into a node.
 *
 * told: {lines: [{dates, values, colour, dash, width}], bands: [{dates, low, high, colour}],
 *        points: [{date, value, shape, colour, hollow}], strip: [{date, colour, hatch}], unit,
 *        about: date -> [[name, value]]}
 */
export function createChart(node, spoken, chosen) {
  let plot = null;
  let told = null;
  let today = null;
  let at = 0;
  const tip = element("div", { class: "tip", hidden: true });

  function draw() {
    plot?.destroy();
    plot = null;
    if (!told || !node.clientWidth) return;
    const days = daysOf(told);
    const data = [days.map((day) => day * DAY_S), ...told.lines.map((line) => onDays(days, line))];
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1, size: 5 }, font: "12px Inter, system-ui, sans-serif" };
    plot = new uPlot({
      width: node.clientWidth, height: node.clientHeight, padding: [10, 14, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: true }, y: { range: () => range(told) } },
      axes: [axis, { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => String(Number(tick.toFixed(3)))) }],
      series: [{}, ...told.lines.map((line) => ({ stroke: colour(line.colour), width: line.width || 2, dash: line.dash, spanGaps: true, points: { show: false } }))],
      hooks: { drawClear: [bands], draw: [strip, points, now], setCursor: [hover] },
    }, data, node);
    plot.over.append(tip);
    plot.over.addEventListener("mouseleave", () => (tip.hidden = true));
    let down = null;
    plot.over.addEventListener("mousedown", (event) => (down = event.clientX));
    plot.over.addEventListener("mouseup", (event) => {
      const idx = plot.cursor.idx;
      if (down !== null && Math.abs(event.clientX - down) < 4 && idx !== null) chosen(dateOf(plot.data[0][idx] / DAY_S));
    });
  }

  const place = (date, value) => [plot.valToPos(dayOf(date) * DAY_S, "x", true), plot.valToPos(value, "y", true)];
  function inside(call) {
    return (self) => {
      plot = self;
      const { ctx, bbox } = self;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      ctx.setLineDash([]); // the last line's dashes are still set
      call(ctx, bbox, uPlot.pxRatio);
      ctx.restore();
    };
  }
  const bands = inside((ctx) => {
    for (const band of told.bands) {
      const held = band.dates.map((date, i) => [date, band.low[i], band.high[i]]).filter(([, low, high]) => low !== null && high !== null);
      ctx.fillStyle = colour(band.colour);
      ctx.beginPath();
      held.forEach(([date, , high]) => ctx.lineTo(...place(date, high)));
      held.reverse().forEach(([date, low]) => ctx.lineTo(...place(date, low)));
      ctx.fill();
    }
  });
  const points = inside((ctx, _, ratio) => {
    const sorted = [...told.points].sort((one, other) => Number(other.hollow) - Number(one.hollow));
    for (const point of sorted) {
      if (point.value === null) continue;
      const [left, top] = place(point.date, point.value);
      mark(ctx, point, left, top, ratio);
    }
  });
  const strip = inside((ctx, bbox, ratio) => {
    const high = 5 * ratio;
    (told.strip || []).forEach((one, i, all) => {
      const [left] = place(one.date, 0);
      const middle = (other) => (other ? (place(other.date, 0)[0] + left) / 2 : left);
      const [from, to] = [middle(all[i - 1]), middle(all[i + 1])];
      ctx.fillStyle = one.colour;
      ctx.fillRect(from, bbox.top + bbox.height - high, to - from, high);
    });
  });
  const now = inside((ctx, bbox, ratio) => {
    if (!today) return;
    const [left] = place(today, 0);
    ctx.strokeStyle = colour("today");
    ctx.lineWidth = 1.5 * ratio;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
  });

  function hover(self) {
    const idx = self.cursor.idx;
    tip.hidden = idx === null || idx === undefined || self.cursor.left < 0;
    if (tip.hidden) return;
    at = idx;
    const date = dateOf(self.data[0][idx] / DAY_S);
    tip.replaceChildren(element("b", {}, longDate(date)), ...told.about(date).map(([name, value]) => element("div", {}, element("span", {}, name), element("span", {}, value))));
    const left = self.valToPos(self.data[0][idx], "x");
    const wide = self.over.clientWidth;
    tip.style.left = left + tip.offsetWidth + 16 > wide ? `${Math.max(0, left - tip.offsetWidth - 12)}px` : `${left + 12}px`;
    tip.style.top = "8px";
  }

  node.addEventListener("keydown", (event) => {
    if (!plot) return;
    const count = plot.data[0].length;
    if (event.key === "Enter") return chosen(dateOf(plot.data[0][at] / DAY_S));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    at = Math.min(count - 1, Math.max(0, to));
    plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
    const date = dateOf(plot.data[0][at] / DAY_S);
    spoken.textContent = `${longDate(date)}: ${told.about(date).map((pair) => pair.join(" ")).join("; ")}`;
  });
  new ResizeObserver(() => {
    if (!plot && told) draw();
    else if (plot && node.clientWidth) plot.setSize({ width: node.clientWidth, height: node.clientHeight });
  }).observe(node);

  return {
    show(next) {
      told = next;
      at = 0;
      draw();
    },
    today(date) {
      today = date;
      plot?.redraw(false);
    },
    clear() {
      plot?.destroy();
      plot = told = null;
    },
    draw,
  };
}

function daysOf(told) {
  const dates = [...told.lines.flatMap((line) => line.dates), ...told.points.map((point) => point.date)];
  return [...new Set(dates.map(dayOf))].sort((a, b) => a - b);
}

function onDays(days, line) {
  const values = new Map(line.dates.map((date, i) => [dayOf(date), line.values[i]]));
  return days.map((day) => values.get(day) ?? null);
}

/** Low and high end of the value axis: all of the line and the clear looks; bands and masked looks are cut where far off. */
function range(told) {
  const there = (values) => values.filter((value) => value !== null && value !== undefined);
  const held = there([...told.lines.flatMap((line) => line.values), ...told.points.filter((point) => !point.hollow).map((point) => point.value)]);
  if (!held.length) return [0, 1];
  const [low, high] = [Math.min(...held), Math.max(...held)];
  const more = Math.max(0.02, (high - low) * 0.1);
  const reach = (high - low) * 1.2 + more;
  const outer = there([...told.bands.flatMap((band) => [...band.low, ...band.high]), ...told.points.map((point) => point.value)]);
  return [Math.max(low - reach, Math.min(low, ...outer)) - more, Math.min(high + reach, Math.max(high, ...outer)) + more];
}

export function mark(ctx, { shape, colour: name, hollow }, left, top, ratio) {
  const size = (hollow ? 3.2 : 4) * ratio;
  ctx.lineWidth = (hollow ? 1.3 : 1) * ratio;
  ctx.strokeStyle = hollow ? colour(name) : colour("paper");
  ctx.fillStyle = colour(name);
  ctx.globalAlpha = hollow ? 0.75 : 1;
  ctx.beginPath();
  if (shape === "circle") ctx.arc(left, top, size, 0, 2 * Math.PI);
  else ctx.rect(left - size * 0.9, top - size * 0.9, size * 1.8, size * 1.8);
  if (!hollow) ctx.fill();
  ctx.stroke();
  ctx.globalAlpha = 1;
}

