// The quotation behind a citation: a small box while the citation is pointed at, and the passage marked in its post.

import { byId, el, timeElement, utf16Ranges } from "./dom.js";

const box = byId("quote");
const MARGIN = 8;
let hiding;

/** Shows the quotation next to the citation `button`; `source` may be unknown. */
export function showQuote(button, { quote, post_id: postId }, source) {
  clearTimeout(hiding);
  box.replaceChildren(
    el("q", {}, quote ?? source?.text ?? ""),
    el("p", { class: "byline" }, source?.author || `Post ${postId}`, timeElement(source?.created_at)),
  );
  box.hidden = false;
  const { left, top } = freePlace(button, box.getBoundingClientRect());
  box.style.setProperty("left", `${left}px`);
  box.style.setProperty("top", `${top}px`);
}

/** Where the box fits next to the citation, if possible without covering another one. */
function freePlace(button, { width, height }) {
  const at = button.getBoundingClientRect();
  const others = [...document.querySelectorAll(".cite")].filter((cite) => cite !== button).map((cite) => cite.getBoundingClientRect());
  const inside = (left) => Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN));
  const places = [at.bottom + MARGIN, at.top - height - MARGIN].flatMap((top) =>
    [at.left + at.width / 2 - width / 2, at.right - width, at.left].map((left) => ({ left: inside(left), top })),
  );
  const visible = places.filter(({ top }) => top >= MARGIN && top + height <= innerHeight - MARGIN);
  const free = ({ left, top }) =>
    !others.some((cite) => cite.left < left + width && cite.right > left && cite.top < top + height && cite.bottom > top);
  return visible.find(free) ?? visible[0] ?? places[0];
}

/** Hides the quotation; tells whether there was one to hide. */
export function hideQuote() {
  clearTimeout(hiding);
  const was = !box.hidden;
  box.hidden = true;
  return was;
}

/** Hides it in a moment, so that the pointer can travel into the box. */
export function hideQuoteSoon() {
  clearTimeout(hiding);
  hiding = setTimeout(hideQuote, 150);
}

/**
 * Underlines the cited passage in the element that shows the text of its post. `start` and `end` count code points;
 * a browser without custom highlights shows the post unmarked.
 */
export function markPassage(element, { start, end, quote }) {
  if (CSS.highlights === undefined) return;
  CSS.highlights.delete("passage");
  const text = element.textContent;
  const [found] = utf16Ranges(text, [{ start, end }]);
  if (found === undefined || text.slice(...found) !== quote) return;
  const range = new Range();
  range.setStart(...position(element, found[0]));
  range.setEnd(...position(element, found[1]));
  CSS.highlights.set("passage", new Highlight(range));
}

/** The text node, and the place in it, of the UTF-16 unit `offset` of the element's text. */
function position(element, offset) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let rest = offset;
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    if (rest <= node.length) return [node, rest];
    rest -= node.length;
  }
  return [element, element.childNodes.length];
}

box.addEventListener("pointerenter", () => clearTimeout(hiding));
box.addEventListener("pointerleave", hideQuoteSoon);
document.addEventListener("scroll", hideQuote, { passive: true, capture: true });
