// Light or dark: as the machine is set, until the switch says otherwise.

const dark = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => {
  try {
    return localStorage.getItem("vsat-theme");
  } catch {
    return null; // storage is forbidden: the choice lasts as long as the page
  }
};

const probe = document.createElement("i");
probe.hidden = true;
document.documentElement.append(probe);

/** A colour of the style sheet as a canvas understands it, for light or dark as it is now. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export function startTheme(button, changed) {
  let now = null;
  const set = (theme) => {
    now = theme;
    document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    changed();
  };
  set(chosen() || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => chosen() || set(dark.matches ? "dark" : "light"));
  button.addEventListener("click", () => {
    const next = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("vsat-theme", next);
    } catch {
      // as above
    }
    set(next);
  });
}
