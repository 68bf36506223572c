// Building elements and writing values. Text from posts only ever becomes text nodes; nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** `document.getElementById`, for ids that `index.html` has. */
export const byId = (id) => document.getElementById(id);

/**
 * An element. `props` become attributes, except `on…` functions (listeners) and `null`, `undefined` or `false`
 * (left out); strings among `children` become text nodes.
 */
export const el = (tag, props = {}, ...children) => filled(document.createElement(tag), props, children);

/** The same for elements of a drawing. */
export const svgEl = (tag, props = {}, ...children) => filled(document.createElementNS(SVG, tag), props, children);

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const ICONS = {
  likes: "M10 16.5S3.5 12.7 3.5 8.2A3.6 3.6 0 0 1 10 6.1a3.6 3.6 0 0 1 6.5 2.1c0 4.5-6.5 8.3-6.5 8.3Z",
  reposts: "M3 8.5 6 5.5l3 3M6 5.5V13a1.5 1.5 0 0 0 1.5 1.5H11M17 11.5l-3 3-3-3M14 14.5V7a1.5 1.5 0 0 0-1.5-1.5H9",
  replies: "M3.5 5.5h13v8.5H9l-3.5 3V14h-2Z",
  views: "M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5ZM10 12a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  link: "M8.5 11.5a3 3 0 0 0 4.3 0l2.7-2.7a3 3 0 0 0-4.3-4.3L10 5.7M11.5 8.5a3 3 0 0 0-4.3 0l-2.7 2.7a3 3 0 0 0 4.3 4.3L10 14.3",
};

/** One of the line icons, hidden from assistive technology. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** The address if it is an absolute http(s) URL, else `null`. */
export function webAddress(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^https?:$/.test(url.protocol) ? url.href : null;
}

/** The address resolved against this page if the result is http(s), else `null`. */
export const ownOrWebAddress = (text) =>
  typeof text === "string" && URL.canParse(text, document.baseURI) ? webAddress(new URL(text, document.baseURI).href) : null;

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const minute = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export const wholeNumber = (value) => whole.format(value);
export const compactNumber = (value) => compact.format(value);
export const plural = (count, noun) => `${whole.format(count)} ${noun}${count === 1 ? "" : "s"}`;

/** A message of the API (lower case, no full stop) as a sentence. */
export function asSentence(message) {
  const text = String(message).trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/** Micros as an amount with two decimals, exactly: no number of money goes through a fraction. */
export function money(micros) {
  const whole = BigInt(micros);
  const cents = (whole < 0n ? -whole : whole) / 10000n;
  return `${whole < 0n ? "-" : ""}${cents / 100n}.${String(cents % 100n).padStart(2, "0")}`;
}

/** A duration as people read it: `under 0.1 ms`, `0.4 ms`, `38 ms`, `1.2 s`. */
export function duration(ms) {
  if (ms < 0.1) return "under 0.1 ms";
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}

const UNITS = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** How long before `now` (both in ms since 1970) a moment was, in words. */
export function relativeTime(then, now = Date.now()) {
  const seconds = (then - now) / 1000;
  const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return unit === undefined ? "just now" : ago.format(Math.trunc(seconds / unit[1]), unit[0]);
}

/** A `<time>` with the date, the distance from now, and the full moment on hover; `null` when unreadable. */
export function timeElement(created) {
  const at = Date.parse(created);
  if (Number.isNaN(at)) return null;
  return el("time", { datetime: created, title: minute.format(at) }, day.format(at), el("span", { class: "ago" }, relativeTime(at)));
}

/**
 * Ranges in Unicode code points (as the API counts) turned into ranges of UTF-16 units (as strings are cut):
 * clamped to the text, in order, overlaps merged, empty ones dropped.
 */
export function utf16Ranges(text, ranges) {
  const units = [];
  let at = 0;
  for (const character of text) {
    units.push(at);
    at += character.length;
  }
  units.push(at);
  const last = units.length - 1;
  const unit = (point) => units[Math.min(Math.max(Math.trunc(point) || 0, 0), last)];
  return merged((ranges ?? []).map((range) => [unit(range?.start), unit(range?.end)]));
}

function merged(ranges) {
  const found = [];
  for (const [start, end] of ranges.filter(([from, to]) => from < to).sort((a, b) => a[0] - b[0])) {
    const previous = found.at(-1);
    if (previous !== undefined && start <= previous[1]) previous[1] = Math.max(previous[1], end);
    else found.push([start, end]);
  }
  return found;
}

/** `text` from `from` to `to` as nodes, with the parts inside `marks` (UTF-16, merged) in `<mark>`. */
export function markedNodes(text, marks, from = 0, to = text.length) {
  const nodes = [];
  let at = from;
  for (const [start, end] of marks) {
    const [a, b] = [Math.max(start, from), Math.min(end, to)];
    if (a >= b) continue;
    if (a > at) nodes.push(text.slice(at, a));
    nodes.push(el("mark", {}, text.slice(a, b)));
    at = b;
  }
  if (at < to) nodes.push(text.slice(at, to));
  return nodes;
}

const ENTITY = /https?:\/\/\S+|(?<![\p{L}\p{N}_])[#@][\p{L}\p{N}_]+/gu;

/**
 * The text of a post: words that matched in `<mark>`, web addresses as links, `#tags` and `@users` as links made by
 * `searchLink(query, ...nodes)`.
 */
export function postText(text, highlights, searchLink) {
  const marks = utf16Ranges(text, highlights);
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(ENTITY)) {
    const isUrl = !/^[#@]/.test(match[0]);
    const word = isUrl ? match[0].replace(/[.,;:!?)\]'"]+$/, "") : match[0];
    const end = match.index + word.length;
    const inner = markedNodes(text, marks, match.index, end);
    const href = isUrl ? webAddress(word) : null;
    nodes.push(...markedNodes(text, marks, at, match.index));
    if (!isUrl) nodes.push(searchLink(word, ...inner));
    else if (href === null) nodes.push(...inner);
    else nodes.push(webLink(href, inner));
    at = end;
  }
  nodes.push(...markedNodes(text, marks, at));
  return nodes;
}

/** A link out of this page that tells the other side nothing about it. */
export const webLink = (href, children) => el("a", { href, rel: "noopener noreferrer nofollow ugc", target: "_blank" }, children);

/** A web address short enough for a line. */
export function shortAddress(href) {
  const { host, pathname } = new URL(href);
  const text = host.replace(/^www\./, "") + (pathname === "/" ? "" : pathname);
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
