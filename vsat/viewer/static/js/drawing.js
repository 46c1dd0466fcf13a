// An area drawn on the map: corners by pointer, or by keys under the cross in the middle.

const MOST_CORNERS = 200;

export function createDrawing({ at, map, marked, drawn }) {
  const drawing = { on: false, corners: [], next: null, add, hover, key, finish };

  function set(on) {
    drawing.on = on;
    drawing.corners = [];
    drawing.next = null;
    map.drawing(on);
    at("draw-bar").hidden = !on;
    at("draw").setAttribute("aria-pressed", String(on));
    tell();
    marked();
  }
  function tell() {
    const count = drawing.corners.length;
    at("draw-text").textContent = count === 0 ? "Click the corners of the area." : count < 3 ? `${count} of at least 3 corners.` : `${count} corners. Finish, or click the first one.`;
    at("draw-done").disabled = count < 3;
    at("draw-undo").disabled = count === 0;
  }
  function add(place) {
    const { corners } = drawing;
    if (corners.length >= 3 && map.near(corners[0], place)) return finish();
    if (corners.length && map.near(corners.at(-1), place)) return undefined; // the second half of a double click
    if (corners.length < MOST_CORNERS) corners.push(place);
    tell();
    return marked();
  }
  function hover(place) {
    drawing.next = drawing.corners.length ? place : null;
    marked();
  }
  function undo() {
    drawing.corners.pop();
    tell();
    marked();
  }
  function finish() {
    if (drawing.corners.length < 3) return;
    const area = drawing.corners;
    set(false);
    drawn(area);
  }
  function key(event) {
    const call = { Enter: () => add(map.centre()), Backspace: undo, Escape: () => set(false), f: finish, F: finish }[event.key];
    if (!call) return;
    event.preventDefault();
    drawing.next = null;
    call();
  }

  at("draw").addEventListener("click", () => {
    set(!drawing.on);
    if (drawing.on) {
      at("map").scrollIntoView({ block: "nearest" });
      at("map").focus();
    }
  });
  at("draw-done").addEventListener("click", finish);
  at("draw-undo").addEventListener("click", undo);
  at("draw-cancel").addEventListener("click", () => set(false));
  return drawing;
}
