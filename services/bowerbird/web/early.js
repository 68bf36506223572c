// What has to be right before the first paint: the theme, and whether this is the start page or a page of results.
(() => {
  "use strict";
  const KEY = "bowerbird.theme";
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is blocked: the choice lasts until the page closes
    }
  };
  const current = () => root.dataset.theme ?? (systemDark.matches ? "dark" : "light");
  const other = () => (current() === "dark" ? "light" : "dark");

  const choice = stored();
  if (choice === "light" || choice === "dark") root.dataset.theme = choice;
  root.dataset.view = (new URLSearchParams(location.search).get("q") ?? "").trim() === "" ? "home" : "results";

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-toggle");
    const label = () => button.setAttribute("aria-label", `Switch to the ${other()} theme`);
    button.addEventListener("click", () => {
      root.dataset.theme = other();
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // Not remembered, but shown.
      }
      label();
    });
    systemDark.addEventListener("change", label);
    label();
  });
})();
