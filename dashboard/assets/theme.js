// Light or dark, before the first paint: a classic script in the head, so that a dark page never flashes white.
// The choice is kept in localStorage where the browser allows it; without one the system's preference rules.
(() => {
  const KEY = "millrace-theme";
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto";
    }
  }

  function keep(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // A browser without storage forgets the choice with the page.
    }
  }

  function apply(choice) {
    root.dataset.theme = choice;
    dispatchEvent(new Event("themechange"));
  }

  apply(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(root.dataset.theme));

  addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = root.dataset.theme;
    select.addEventListener("change", () => {
      apply(select.value);
      keep(select.value);
    });
  });
})();
