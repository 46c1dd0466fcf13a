// The date slider: when the satellites looked, which dates have an image, and which date is shown.

import { SENSORS, clearText, dateOf, dayOf, element, longDate, percent } from "./words.js";

const INSET = 8; // half of the slider's handle, which never leaves the track
const TICKS = { base: 42, tallest: 34, images: 52, axis: 62 };
const SVG = "http://www.w3.org/2000/svg";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function shape(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

const LONG_DAYS = 500; // a record longer than this can be looked at year by year
const bounds = (year) => [`${year}-01-01`, `${year}-12-31`].map(dayOf);

export function createTimeline({ track, svg, input, hint, span, spanField }, chosen) {
  let images = []; // {date, day, status, observed}
  let stops = []; // the days that can be chosen
  let looks = new Map(); // day -> looks
  let all = [0, 1]; // first and last day of the record
  let [first, last, now] = [0, 1, null]; // of what the slider shows

  const x = (day) => INSET + ((day - first) / Math.max(1, last - first)) * (track.clientWidth - 2 * INSET);
  const nearest = (day) => stops.reduce((best, one) => (Math.abs(one - day) < Math.abs(best - day) ? one : best), stops[0]);

  function draw() {
    const wide = track.clientWidth;
    svg.replaceChildren();
    if (!wide) return;
    drawAxis(wide);
    for (const [kind, sensor, shift] of [["l30", "L30", -1.2], ["s30", "S30", 1.2]]) {
      let path = "";
      for (const [day, several] of looks)
        for (const look of several)
          if (look.sensor === sensor && day >= first && day <= last) path += `M${(x(day) + shift).toFixed(1)} ${TICKS.base}v${-(3 + (look.clear ?? 0.5) * (TICKS.tallest - 3)).toFixed(1)}`;
      const crowded = (looks.size * (last - first)) / Math.max(1, all[1] - all[0]) > wide / 4;
      svg.append(shape("path", { d: path, class: kind, "stroke-width": crowded ? 1 : 2, "stroke-linecap": "butt" }));
    }
    const shown = images.filter((one) => one.day >= first && one.day <= last);
    const radius = shown.length > wide / 9 ? 2 : 3.6;
    for (const one of shown)
      svg.append(shape("circle", { cx: x(one.day), cy: TICKS.images, r: radius, class: `image${one.status === "final" ? "" : " open"}${one.day === now ? " now" : ""}` }));
  }

  function drawAxis(wide) {
    svg.append(shape("line", { x1: INSET, x2: wide - INSET, y1: TICKS.base + 0.5, y2: TICKS.base + 0.5, class: "axis" }));
    const months = [];
    const start = new Date(first * 86400000);
    for (let at = Date.UTC(start.getUTCFullYear(), start.getUTCMonth(), 1); at / 86400000 <= last; ) {
      const day = new Date(at);
      if (at / 86400000 >= first) months.push(day);
      at = Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + 1, 1);
    }
    const every = [1, 2, 3, 6, 12, 24, 60].find((step) => (months.length / step) * 42 <= wide) || 120;
    months.forEach((day) => {
      const month = day.getUTCFullYear() * 12 + day.getUTCMonth();
      if (month % every) return;
      const left = x(day.getTime() / 86400000);
      if (left > wide - 30) return;
      svg.append(shape("line", { x1: left, x2: left, y1: TICKS.base - TICKS.tallest - 4, y2: TICKS.axis + 3, class: "grid" }));
      const january = day.getUTCMonth() === 0;
      svg.append(shape("text", { x: left + 3, y: TICKS.axis + 10, "font-weight": january ? 650 : 400 }, january ? String(day.getUTCFullYear()) : MONTHS[day.getUTCMonth()]));
    });
  }

  /** The slider shows a year, or all of the record. */
  function stretch(year) {
    span.value = year;
    [first, last] = year === "all" ? all : bounds(year);
    [input.min, input.max] = [first, last];
  }

  /** What is on a day, in words. */
  function about(day) {
    const image = images.find((one) => one.day === day);
    const seen = (looks.get(day) || []).map((look) => `${SENSORS[look.sensor] || look.sensor} ${clearText(look)}`);
    const parts = [longDate(dateOf(day))];
    if (image) parts.push(`image ${image.status}, ${percent(image.observed)} observed`);
    parts.push(seen.length ? seen.join(", ") : "no look");
    return parts;
  }

  const pick = (day) => {
    const to = nearest(day);
    if (to !== undefined) chosen(dateOf(to));
    set(to);
  };
  function set(day) {
    now = day ?? now;
    if (now === null) return;
    if (now < first || now > last) stretch(dateOf(now).slice(0, 4));
    input.value = now;
    input.setAttribute("aria-valuetext", about(now).join("; "));
    draw();
  }

  span.addEventListener("change", () => {
    stretch(span.value);
    if (now < first || now > last) pick((first + last) / 2);
    else set(now);
  });
  input.addEventListener("input", () => pick(Number(input.value)));
  input.addEventListener("keydown", (event) => {
    const index = stops.indexOf(nearest(now));
    const to = {
      ArrowLeft: stops[index - 1], ArrowDown: stops[index - 1], ArrowRight: stops[index + 1], ArrowUp: stops[index + 1],
      PageDown: nearest(now - 30), PageUp: nearest(now + 30), Home: stops[0], End: stops.at(-1),
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    if (to[event.key] !== undefined) pick(to[event.key]);
  });
  track.addEventListener("pointermove", (event) => {
    const left = event.clientX - track.getBoundingClientRect().left;
    const days = [...stops, ...looks.keys()].filter((day) => day >= first && day <= last);
    const close = days.reduce((best, day) => (Math.abs(x(day) - left) < Math.abs(x(best) - left) ? day : best), days[0]);
    hint.hidden = close === undefined || Math.abs(x(close) - left) > 12;
    if (hint.hidden) return;
    hint.textContent = about(close).join(" · ");
    const half = hint.offsetWidth / 2;
    hint.style.left = `${Math.min(track.clientWidth - half, Math.max(half, x(close)))}px`;
  });
  track.addEventListener("pointerleave", () => (hint.hidden = true));
  new ResizeObserver(draw).observe(track);

  return {
    load(region) {
      images = region.dates.map((one) => ({ ...one, day: dayOf(one.date) }));
      looks = new Map();
      for (const look of region.looks) {
        const day = dayOf(look.date);
        looks.set(day, [...(looks.get(day) || []), look]);
      }
      const days = [...images.map((one) => one.day), ...looks.keys()].sort((a, b) => a - b);
      all = days.length ? [days[0], days.at(-1)] : [0, 1];
      const [from, to] = all.map((day) => Number(dateOf(day).slice(0, 4)));
      const years = Array.from({ length: to - from + 1 }, (_, i) => to - i);
      span.replaceChildren(...["all", ...years].map((year) => element("option", { value: year }, year === "all" ? "all years" : String(year))));
      spanField.hidden = all[1] - all[0] < LONG_DAYS;
      stretch("all");
      input.disabled = images.length === 0;
      now = null;
      draw();
    },
    /** The days that can be chosen: those with an image, with the looks too where only the observed is shown. */
    stopAt(dates) {
      stops = dates.map(dayOf).sort((a, b) => a - b);
    },
    set: (date) => set(dayOf(date)),
    nearest: (date) => (stops.length ? dateOf(nearest(dayOf(date))) : null),
    step(by, date) {
      const to = stops[stops.indexOf(nearest(dayOf(date))) + by];
      return to === undefined ? null : dateOf(to);
    },
    imageOn: (date) => images.find((one) => one.date === date),
    looksOn: (date) => looks.get(dayOf(date)) || [],
    lookDates: () => [...looks.keys()].map(dateOf),
    /** First and last date of what the slider shows. */
    stretch: () => [dateOf(first), dateOf(last)],
    draw,
  };
}
