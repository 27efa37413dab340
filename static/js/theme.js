// Runs before the first paint, so that a dark page never flashes white. The choice (light, dark, auto) stays in this browser.
(() => {
  const KEY = "gatehouse-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  const chosen = () => {
    try {
      return localStorage.getItem(KEY) || "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  };

  const apply = () => {
    const choice = chosen();
    root.dataset.themeChoice = choice;
    root.setAttribute("data-bs-theme", choice === "auto" ? (system.matches ? "dark" : "light") : choice);
    document.dispatchEvent(new CustomEvent("gatehouse:theme"));
  };

  window.gatehouseTheme = {
    chosen,
    choose(choice) {
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        /* the page still changes; only the memory of it is missing */
      }
      apply();
    },
  };
  system.addEventListener("change", apply);
  root.classList.add("js");
  apply();
})();
