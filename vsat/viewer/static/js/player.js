// Plays the dates one after another, as fast as the pictures come and no faster than asked for.

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function createPlayer({ button, speed }, next) {
  let run = 0;

  function set(on) {
    button.classList.toggle("on", on);
    button.setAttribute("aria-label", on ? "Pause" : "Play");
    button.title = on ? "Pause" : "Play";
  }
  async function play() {
    const mine = ++run;
    set(true);
    while (mine === run) {
      const [more] = await Promise.all([next(), wait(1000 / Number(speed.value))]);
      if (!more) break;
    }
    if (mine === run) set(false);
  }
  function stop() {
    run += 1;
    set(false);
  }
  button.addEventListener("click", () => (button.classList.contains("on") ? stop() : play()));
  return { stop };
}
