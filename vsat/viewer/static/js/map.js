// The map: pictures of one or two layers without a base map, a graticule, the divider, the picked place.

import * as L from "/static/vendor/leaflet/leaflet-src.esm.js";
import { degrees, element } from "./words.js";

const STEPS = [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

export function createMap(node, calls) {
  const map = L.map(node, { zoomControl: false, attributionControl: false, fadeAnimation: false, zoomSnap: 0.25, trackResize: false, minZoom: 3, maxZoom: 18, keyboard: true });
  L.control.zoom({ position: "topleft" }).addTo(map);
  L.control.scale({ imperial: false, position: "bottomleft" }).addTo(map);
  map.createPane("right").style.zIndex = 200;
  map.createPane("left").style.zIndex = 210;
  const pictures = { right: new Picture(map, "right", calls.failed), left: new Picture(map, "left", calls.failed) };
  const graticule = new Graticule(map);
  const swipe = new Swipe(map, calls.swiped);
  const marks = L.layerGroup().addTo(map);
  let bounds = null;
  let outline = null;
  let whole = true; // the whole region is shown, until someone moves the map
  let moving = false; // by the page, not by a person
  let kept = null; // the picked place, which stays in sight when the map becomes smaller

  function fit() {
    moving = true;
    map.fitBounds(bounds, { animate: false, padding: [10, 10] });
    moving = false;
  }
  map.on("movestart", () => (whole &&= moving));
  map.on("moveend", () => {
    graticule.draw();
    const centre = map.getCenter();
    calls.moved(whole ? null : { zoom: map.getZoom(), lat: centre.lat, lon: centre.lng });
  });
  function resized() {
    const size = map.getSize();
    if (!node.clientHeight || (size.x === node.clientWidth && size.y === node.clientHeight)) return;
    moving = true;
    map.invalidateSize({ animate: false });
    if (bounds && whole) fit();
    else if (kept) map.panInside([kept[1], kept[0]], { animate: false, padding: [40, 40] });
    moving = false;
  }
  new ResizeObserver(resized).observe(node);
  map.on("click", (event) => calls.picked([event.latlng.wrap().lng, event.latlng.lat], "pointer"));
  map.on("dblclick", () => calls.finished());
  map.on("mousemove", (event) => calls.hovered([event.latlng.wrap().lng, event.latlng.lat]));
  node.addEventListener("keydown", (event) => event.target === node && calls.keyed(event));
  where(map);

  return {
    map,
    resized,
    centre: () => [map.getCenter().wrap().lng, map.getCenter().lat],
    showRegion(region, view) {
      const [west, south, east, north] = region.bounds;
      bounds = L.latLngBounds([south, west], [north, east < west ? east + 360 : east]);
      outline?.remove();
      outline = L.rectangle(bounds, { className: "outline", fill: false, color: "#8a9691", weight: 1.2, dashArray: "5 4", interactive: false }).addTo(map);
      pictures.left.clear();
      pictures.right.clear();
      whole = !view;
      if (view) map.setView([view.lat, view.lon], view.zoom, { animate: false });
      else fit();
      graticule.draw();
    },
    /** Shows the pictures at these addresses; resolves when they are on the screen. */
    show({ right, left }) {
      return Promise.all([pictures.right.show(right, bounds), pictures.left.show(left, bounds)]);
    },
    swipe,
    /** Draws the picked place, the area, and what of an area is drawn already. */
    mark({ point, area, corners, next }) {
      marks.clearLayers();
      kept = point;
      const at = ([lon, lat]) => [lat, lon];
      const white = { color: "#fff", weight: 4.5, fill: false, interactive: false, opacity: 0.95 };
      const dark = { color: "#0d1412", weight: 2, fill: false, interactive: false, opacity: 1 };
      if (area) {
        L.polygon(area.map(at), white).addTo(marks);
        L.polygon(area.map(at), { ...dark, className: "area" }).addTo(marks);
      }
      if (corners?.length) {
        const line = [...corners, ...(next ? [next] : [])].map(at);
        L.polyline(line, white).addTo(marks);
        L.polyline(line, { ...dark, dashArray: "4 4" }).addTo(marks);
        for (const corner of corners) L.circleMarker(at(corner), { radius: 5, color: "#0d1412", weight: 2, fillColor: "#fff", fillOpacity: 1, interactive: false }).addTo(marks);
      }
      if (point) {
        L.circleMarker(at(point), { ...white, radius: 9, weight: 5 }).addTo(marks);
        L.circleMarker(at(point), { ...dark, radius: 9, weight: 2.2, className: "point" }).addTo(marks);
        L.circleMarker(at(point), { radius: 2, color: "#0d1412", weight: 1, fillColor: "#fff", fillOpacity: 1, interactive: false }).addTo(marks);
      }
    },
    drawing(on) {
      map.doubleClickZoom[on ? "disable" : "enable"]();
      node.classList.toggle("drawing", on);
    },
    near: (one, other) => map.latLngToContainerPoint([one[1], one[0]]).distanceTo(map.latLngToContainerPoint([other[1], other[0]])) < 14,
  };
}

/** Tiles a pixel larger than they are, for at zooms between two levels hairlines would show between them. */
const Tiles = L.TileLayer.extend({
  _initTile(tile) {
    L.TileLayer.prototype._initTile.call(this, tile);
    const size = this.getTileSize();
    tile.style.width = `${size.x + 1}px`;
    tile.style.height = `${size.y + 1}px`;
  },
});

/** One layer's tiles. The picture before stays until the next is whole, so that nothing flickers. */
class Picture {
  constructor(map, pane, failed) {
    Object.assign(this, { map, pane, failed, address: null, layers: [], ready: Promise.resolve() });
  }

  show(address, bounds) {
    if (address === this.address) return this.ready;
    this.address = address;
    if (!address) {
      this.clear();
      return Promise.resolve();
    }
    this.layers.splice(1).forEach((layer) => layer.remove()); // those not yet whole
    const layer = new Tiles(address, { pane: this.pane, bounds: bounds.pad(0.02), minZoom: 3, maxZoom: 18, maxNativeZoom: 15, keepBuffer: 1, updateWhenZooming: false });
    layer.on("tileerror", () => this.layers.includes(layer) && this.failed());
    this.layers.push(layer);
    this.ready = new Promise((resolve) => {
      const whole = () => {
        while (this.layers.length > 1 && this.layers[0] !== layer) this.layers.shift().remove();
        resolve();
      };
      layer.once("load", whole);
      layer.once("remove", resolve);
      layer.addTo(this.map);
      if (!layer.isLoading()) whole(); // no tile of it is in sight
    });
    return this.ready;
  }

  clear() {
    this.layers.splice(0).forEach((layer) => layer.remove());
    this.address = null;
  }
}

class Graticule {
  constructor(map) {
    this.map = map;
    map.createPane("graticule").style.zIndex = 150; // below the pictures
    this.lines = L.layerGroup().addTo(map);
  }

  draw() {
    const seen = this.map.getBounds();
    const wide = seen.getEast() - seen.getWest();
    const step = STEPS.find((one) => wide / one >= 3) || STEPS.at(-1);
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    this.lines.clearLayers();
    const style = { pane: "graticule", className: "graticule", color: "#8a9691", opacity: 0.38, weight: 1, interactive: false };
    const size = this.map.getSize();
    const label = (latlng, text, anchor) => {
      const at = this.map.latLngToContainerPoint(latlng);
      if (at.y > size.y - 40 && (at.x < 120 || anchor[0] > 0 || at.x > size.x - 70)) return; // the corners hold other things
      L.marker(latlng, { interactive: false, keyboard: false, icon: L.divIcon({ className: "graticule-label", html: text, iconAnchor: anchor }) }).addTo(this.lines);
    };
    for (let lon = Math.ceil(seen.getWest() / step) * step; lon < seen.getEast(); lon += step) {
      L.polyline([[seen.getSouth(), lon], [seen.getNorth(), lon]], style).addTo(this.lines);
      label([seen.getSouth(), lon], `${Math.abs(lon).toFixed(digits)}° ${lon < 0 ? "W" : "E"}`, [-4, 18]);
    }
    for (let lat = Math.ceil(seen.getSouth() / step) * step; lat < seen.getNorth(); lat += step) {
      L.polyline([[lat, seen.getWest()], [lat, seen.getEast()]], style).addTo(this.lines);
      label([lat, seen.getEast()], `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}`, [62, -3]);
    }
  }
}

/** The divider between two pictures: dragged, or moved by keys. */
class Swipe {
  constructor(map, moved) {
    Object.assign(this, { map, moved, at: 50, on: false });
    this.left = element("span", { class: "left" });
    this.right = element("span", { class: "right" });
    this.handle = element("div", { class: "swipe", role: "slider", tabindex: "0", "aria-label": "Divider between the pictures", "aria-valuemin": "0", "aria-valuemax": "100", hidden: true }, this.left, this.right);
    map.getContainer().append(this.handle);
    L.DomEvent.disableClickPropagation(this.handle);
    this.handle.addEventListener("pointerdown", (event) => this.handle.setPointerCapture(event.pointerId));
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      const box = map.getContainer().getBoundingClientRect();
      this.move((100 * (event.clientX - box.left)) / box.width);
    });
    this.handle.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.at - 2, ArrowRight: this.at + 2, PageDown: this.at - 10, PageUp: this.at + 10, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(to);
    });
    map.on("move resize zoomend viewreset", () => this.cut());
  }

  set(on, at, left, right) {
    this.on = on;
    this.handle.hidden = !on;
    this.left.textContent = left;
    this.right.textContent = right;
    this.names = [left, right];
    this.move(at, false);
  }

  move(at, tell = true) {
    this.at = Math.min(100, Math.max(0, at));
    this.handle.style.left = `${this.at}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(this.at));
    this.handle.setAttribute("aria-valuetext", `${Math.round(this.at)} % ${this.names[0]}, ${Math.round(100 - this.at)} % ${this.names[1]}`);
    this.cut();
    if (tell) this.moved(this.at);
  }

  cut() {
    const size = this.map.getSize();
    const start = this.map.containerPointToLayerPoint([0, 0]);
    const end = this.map.containerPointToLayerPoint(size);
    const middle = this.map.containerPointToLayerPoint([(size.x * this.at) / 100, 0]).x;
    const box = (from, to) => `polygon(${from}px ${start.y}px, ${to}px ${start.y}px, ${to}px ${end.y}px, ${from}px ${end.y}px)`;
    this.map.getPane("left").style.clipPath = this.on ? box(start.x, middle) : "";
    this.map.getPane("right").style.clipPath = this.on ? box(middle, end.x) : "";
  }
}

function where(map) {
  const node = element("div", { class: "where", "aria-hidden": "true", hidden: true });
  const Where = L.Control.extend({ options: { position: "bottomright" }, onAdd: () => node });
  new Where().addTo(map);
  map.on("mousemove", (event) => {
    node.hidden = false;
    node.textContent = degrees([event.latlng.wrap().lng, event.latlng.lat]);
  });
  map.on("mouseout", () => (node.hidden = true));
}
