// The answer: sentences as they are sent, each with the posts it rests on; sources, refusals and stopping.

import { asSentence, byId, el, plural, timeElement } from "./dom.js";
import { isAbort, postForEvents } from "./net.js";
import { operatorTerm } from "./query.js";
import { hideQuote, hideQuoteSoon, markPassage, showQuote } from "./quote.js";
import { findHit, searchLink } from "./results.js";

const panel = byId("answer");
const body = byId("answer-body");

const ORIGINS = {
  extracted: { label: "quoted", title: "The words of the post itself" },
  generated: { label: "written and checked", title: "Written by the model, then checked against the posts it cites before it was shown" },
};

/** What is on screen: the sources by number, the sentences by index, and every citation so far. */
let shown = empty();
let running = null;

function empty() {
  return { sources: new Map(), sentences: new Map(), citations: [], finished: false };
}

/**
 * Asks for an answer and shows it as it arrives.
 *
 * Returns the events if the stream came to its end (to be shown again by {@link replayAnswer}), `null` if it was
 * stopped or failed. `onAd` gets sponsored blocks that come with the answer, which are never part of it; none is of an
 * advertiser that has one of `besideAds` on the page.
 */
export async function askForAnswer(question, besideAds, onAd) {
  closeAnswer();
  open("Reading the posts");
  body.replaceChildren(...Array.from({ length: 3 }, () => el("p", { class: "sentence waiting", "aria-hidden": "true" }, el("span", {}))));
  const controller = new AbortController();
  running = controller;
  byId("answer-stop").hidden = false;
  const events = [];
  try {
    for await (const event of postForEvents("v1/answer", { q: question, stream: true, ads: true, beside_ads: besideAds.slice(0, 16) }, controller.signal, isEnd)) {
      events.push(event);
      show(event, onAd);
      if (shown.finished) return event.event === "done" ? events : null;
    }
    fail("The connection ended before the answer was complete.");
  } catch (error) {
    if (!isAbort(error)) fail(error.message, error.requestId);
  } finally {
    if (running === controller) settle();
  }
  return null;
}

const isEnd = ({ event }) => event === "done" || event === "error";

/** Shows an answer that was complete before, without asking again. */
export function replayAnswer(events, onAd) {
  closeAnswer();
  open("");
  for (const event of events) show(event, onAd);
}

/** Stops what runs and takes the answer off the page. */
export function closeAnswer() {
  running?.abort();
  settle();
  shown = empty();
  hideQuote();
  panel.hidden = true;
  body.replaceChildren();
  body.classList.remove("refusal");
  byId("answer-note").textContent = "";
  byId("answer-sources").hidden = true;
  byId("answer-sources").open = false;
  setExpanded(false);
  markCitedHits();
}

/** Gives the hits that the answer cites their pebble; to be called when the list of hits has changed. */
export function markCitedHits() {
  for (const old of document.querySelectorAll(".hit .pebble")) old.remove();
  for (const hit of document.querySelectorAll(".hit[data-cited]")) hit.removeAttribute("data-cited");
  for (const { n, post_id: postId } of shown.citations) {
    const hit = findHit(postId);
    if (hit === null || hit.hasAttribute("data-cited")) continue;
    hit.setAttribute("data-cited", n);
    const back = () => {
      panel.scrollIntoView({ block: "nearest", behavior: motion() });
      body.querySelector(`.cite[data-n="${n}"]`)?.focus({ preventScroll: true });
    };
    hit.prepend(el("button", { type: "button", class: "pebble", "aria-label": `Cited as ${n}, back to the answer`, onclick: back }, String(n)));
  }
}

function open(state) {
  panel.hidden = false;
  panel.dataset.state = "running";
  body.setAttribute("aria-busy", "true");
  byId("answer-state").textContent = state;
}

function settle() {
  running = null;
  byId("answer-stop").hidden = true;
  body.setAttribute("aria-busy", "false");
  panel.dataset.state = "settled";
}

function show({ event, data }, onAd) {
  if (data === null || typeof data !== "object") return;
  if (event === "sources") showSources(Array.isArray(data) ? data : (data.sources ?? []));
  else if (event === "delta") showSentence(data);
  else if (event === "citation") showCitation(data);
  else if (event === "ad") onAd(Array.isArray(data.blocks) ? data.blocks : [data]);
  else if (event === "done") finish(data);
  else if (event === "error") {
    const told = data.error ?? data;
    fail(told.message ?? "The answer failed.", told.request_id);
  }
}

function showSources(sources) {
  shown.sources = new Map(sources.map((source) => [Number(source.n), source]));
  byId("answer-state").textContent = sources.length === 0 ? "Reading the posts" : `Reading ${plural(sources.length, "post")}`;
  byId("source-count").textContent = String(sources.length);
  byId("answer-sources").hidden = sources.length === 0;
  byId("source-list").replaceChildren(...sources.map(sourceItem));
}

function sourceItem(source) {
  return el(
    "li",
    { class: "source", "data-n": source.n, "data-post-id": source.post_id ?? source.id, tabindex: "-1" },
    el("span", { class: "pebble", "aria-hidden": "true" }, String(source.n)),
    el(
      "div",
      {},
      el("p", { class: "byline" }, source.author ? searchLink(operatorTerm("from", source.author), source.author) : "unknown", timeElement(source.created_at)),
      el("p", { class: "text", dir: "auto" }, source.text ?? ""),
    ),
  );
}

function showSentence({ text, sentence, origin, verdict, probability }) {
  for (const line of body.querySelectorAll(".waiting")) line.remove();
  const index = sentence ?? shown.sentences.size;
  const before = shown.sentences.get(index);
  if (before !== undefined) {
    before.words.append(text ?? "");
    return;
  }
  const words = el("span", { class: "words", dir: "auto" }, (text ?? "").trim());
  const cites = el("sup", { class: "cites" });
  const known = ORIGINS[origin] ?? ORIGINS.generated;
  const certainty = typeof probability === "number" ? ` (score of the check: ${probability.toFixed(2)} of 1)` : "";
  const partly = verdict !== undefined && verdict !== null && verdict !== "supported";
  const mark = el("span", { class: "origin", title: known.title + certainty }, known.label);
  const doubt = partly ? el("span", { class: "origin doubt", title: "The cited posts say part of this" }, "partly supported") : null;
  body.append(el("p", { class: "sentence", "data-sentence": index, "data-origin": origin ?? "generated" }, words, cites, " ", mark, doubt ?? ""));
  shown.sentences.set(index, { words, cites });
  byId("answer-state").textContent = "Writing and checking";
  reviewOverflow();
}

function showCitation(citation) {
  const target = shown.sentences.get(citation.sentence) ?? [...shown.sentences.values()].at(-1);
  const n = Number(citation.n);
  if (target === undefined || !Number.isInteger(n) || target.cites.querySelector(`[data-n="${n}"]`) !== null) return;
  target.cites.append(citeButton(n, citation));
  shown.citations.push(citation);
  markCitedHits();
}

function citeButton(n, citation) {
  const source = shown.sources.get(n);
  const author = source?.author ? `, ${source.author}` : "";
  const button = el("button", {
    type: "button",
    class: "cite",
    "data-n": n,
    "data-post-id": citation.post_id,
    "aria-label": `Source ${n}${author}: ${citation.quote ?? ""}`,
    onclick: () => follow(n, citation),
    onpointerenter: () => showQuote(button, citation, source),
    onpointerleave: hideQuoteSoon,
    onfocus: () => showQuote(button, citation, source),
    onblur: hideQuote,
  }, String(n));
  return button;
}

/** Leads to the post: in the list of hits if it is there, else in the list of sources. */
function follow(n, citation) {
  const hit = findHit(citation.post_id);
  if (hit === null) byId("answer-sources").open = true;
  const target = hit ?? byId("source-list").querySelector(`[data-n="${n}"]`);
  if (target === null) return;
  hideQuote();
  target.scrollIntoView({ block: "center", behavior: motion() });
  target.focus({ preventScroll: true });
  target.classList.remove("followed");
  requestAnimationFrame(() => target.classList.add("followed"));
  markPassage(target.querySelector(".text"), citation);
}

const motion = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

const REFUSALS = {
  refused_no_evidence: "The posts found do not answer this.",
  refused_low_support: "Nothing that was written held up against the posts.",
};
const ENDINGS = {
  deadline: "Stopped at its time limit. What you see was checked.",
  budget: "Stopped at its time limit. What you see was checked.",
  length: "Stopped at its length limit.",
  cancelled: "Stopped.",
};

function finish({ finish_reason: reason, reason: told, nearest, degraded }) {
  shown.finished = true;
  settle();
  const refused = String(reason ?? "").startsWith("refused") || shown.sentences.size === 0;
  if (refused) {
    body.classList.add("refusal");
    body.replaceChildren(
      el("p", {}, REFUSALS[reason] ?? "No answer could be given."),
      told ? el("p", { class: "reason" }, asSentence(told)) : "",
      ...nearestPosts(nearest ?? []),
    );
    byId("answer-state").textContent = "No answer";
  } else {
    const posts = new Set(shown.citations.map((citation) => citation.post_id)).size;
    byId("answer-state").textContent = posts === 0 ? "" : `From ${plural(posts, "post")}`;
    const quoted = (degraded ?? []).includes("generate") ? "The writing model was not available, so posts are quoted. " : "";
    byId("answer-note").textContent = quoted + (ENDINGS[reason] ?? "");
  }
  reviewOverflow();
}

function nearestPosts(nearest) {
  if (nearest.length === 0) return [el("p", { class: "reason" }, "The posts that come closest are listed below.")];
  const posts = nearest.slice(0, 3).map((post) => el("li", {}, el("q", {}, post.quote), el("sup", { class: "cites" }, citeButton(Number(post.n), post))));
  return [el("p", { class: "reason" }, "What comes closest:"), el("ul", { class: "nearest", role: "list" }, posts)];
}

function fail(message, requestId) {
  shown.finished = true;
  settle();
  for (const line of body.querySelectorAll(".waiting")) line.remove();
  byId("answer-state").textContent = "Interrupted";
  const note = requestId ? `${asSentence(message)} Request ${requestId}.` : asSentence(message);
  if (shown.sentences.size > 0) byId("answer-note").textContent = note;
  else body.replaceChildren(el("p", { class: "reason", role: "alert" }, note));
}

function stop() {
  running?.abort();
  settle();
  for (const line of body.querySelectorAll(".waiting")) line.remove();
  byId("answer-state").textContent = "Stopped";
  if (shown.sentences.size === 0) body.replaceChildren(el("p", { class: "reason" }, "Stopped before the first sentence."));
}

// The window keeps its height while sentences arrive, so the results below it stay where they are.

function reviewOverflow() {
  const frame = byId("answer-window");
  const expanded = frame.classList.contains("expanded");
  const over = body.scrollHeight > frame.clientHeight + 2;
  frame.classList.toggle("clipped", over && !expanded);
  byId("answer-expand").hidden = !over && !expanded;
}

function setExpanded(expanded) {
  byId("answer-window").classList.toggle("expanded", expanded);
  byId("answer-expand").setAttribute("aria-expanded", String(expanded));
  byId("answer-expand").textContent = expanded ? "Show less" : "Show all of it";
  reviewOverflow();
}

byId("answer-stop").addEventListener("click", stop);
byId("answer-expand").addEventListener("click", () => setExpanded(!byId("answer-window").classList.contains("expanded")));
body.addEventListener("focusin", () => {
  if (byId("answer-window").classList.contains("clipped")) setExpanded(true);
});
addEventListener("resize", reviewOverflow);
