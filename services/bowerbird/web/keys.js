// The keyboard: slash to the box, arrows between results, Enter opens one, Escape closes, then clears.

import { byId } from "./dom.js";
import { hideQuote } from "./quote.js";

const hits = () => [...byId("hits").querySelectorAll(".hit")];
const isTyping = (target) => target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]") !== null;

/** Starts listening; `clear` empties the box. */
export function startKeys({ input, clear }) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const handled = handle(event, input, clear);
    if (handled) event.preventDefault();
  });
  // The result that had the focus last is the one that Tab comes back to.
  byId("hits").addEventListener("focusin", (event) => {
    for (const hit of hits()) hit.tabIndex = hit.contains(event.target) ? 0 : -1;
  });
}

function handle(event, input, clear) {
  const { key, target } = event;
  if (key === "Escape") return escape(target, clear);
  if (key === "/" && !isTyping(target)) {
    input.focus();
    input.select();
    return true;
  }
  if (key === "ArrowDown" || key === "ArrowUp") return move(key === "ArrowDown" ? 1 : -1, target, input);
  if (key === "Enter" && target.matches(".hit")) {
    target.querySelector(".why-toggle").click();
    return true;
  }
  return false;
}

function escape(target, clear) {
  if (hideQuote()) return true;
  const operators = byId("operators");
  if (operators.open) {
    operators.open = false;
    operators.querySelector("summary").focus();
    return true;
  }
  const toggle = target.closest(".hit")?.querySelector('.why-toggle[aria-expanded="true"]');
  if (toggle) {
    toggle.click();
    toggle.closest(".hit").focus({ preventScroll: true });
    return true;
  }
  clear();
  return true;
}

function move(step, target, input) {
  const current = target.closest(".hit");
  const fromBox = target === input;
  if (!fromBox && current === null && target !== document.body) return false;
  const all = hits();
  if (all.length === 0) return false;
  if (current === null) return step > 0 && focusHit(all[0]);
  const next = all.indexOf(current) + step;
  if (next < 0) {
    input.focus();
    return true;
  }
  return focusHit(all[Math.min(next, all.length - 1)]);
}

function focusHit(hit) {
  hit.focus({ preventScroll: true });
  hit.scrollIntoView({ block: "nearest" });
  return true;
}
