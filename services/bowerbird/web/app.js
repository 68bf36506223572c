// The page: one query at a time, kept in the address; what it asks the server, and what is on screen meanwhile.

import { askForAnswer, closeAnswer, markCitedHits, replayAnswer } from "./answer.js";
import { asSentence, byId, el, plural, wholeNumber } from "./dom.js";
import { startKeys } from "./keys.js";
import { getStatus, isAbort, postJson } from "./net.js";
import { insertOperator, looksLikeQuestion, OPERATORS } from "./query.js";
import { appendHits, showFacets, showNotices, showPlaceholders, showTiming, totalText } from "./results.js";
import { showSponsored, shownAdIds } from "./sponsored.js";
import { startSuggestions } from "./suggest.js";

const LIMIT = 10;
const SORTS = ["relevance", "recent", "engagement"];
const MODES = ["auto", "lexical", "vector", "hybrid"];
const ALWAYS_ANSWER = "bowerbird.always-answer";
const KEPT_PAGES = 20;

const input = byId("q");

/** What is on screen: the request it answers, and where the next page starts. `null` on the start page. */
let view = null;
let pending = null;
/** Pages seen in this visit, so that Back is instant and shows (and charges) no ad twice. */
const kept = new Map();

// The address.

function fromAddress() {
  const params = new URLSearchParams(location.search);
  const oneOf = (name, values) => (values.includes(params.get(name)) ? params.get(name) : values[0]);
  return { q: (params.get("q") ?? "").trim(), sort: oneOf("sort", SORTS), mode: oneOf("mode", MODES) };
}

function toAddress({ q, sort, mode }) {
  const params = new URLSearchParams({ q });
  if (sort !== SORTS[0]) params.set("sort", sort);
  if (mode !== MODES[0]) params.set("mode", mode);
  return `?${params}`;
}

const keyOf = (request) => JSON.stringify([request.q, request.sort, request.mode]);

// Going somewhere: each of these aborts what the page was doing before.

function submit(change = {}) {
  const request = { ...options(), q: input.value.trim(), ...change };
  if (request.q === "") return goHome();
  const same = view !== null && keyOf(view.request) === keyOf(request);
  if (!same) history.pushState(null, "", toAddress(request));
  kept.delete(keyOf(request)); // asked for anew, not gone back to
  return open(request);
}

function goHome() {
  if (view !== null || location.search !== "") history.pushState(null, "", location.pathname);
  showHome();
}

function followAddress() {
  const request = fromAddress();
  if (request.q === "") showHome();
  else open(request);
}

function options() {
  const sort = new FormData(byId("options")).get("sort");
  return { sort, mode: byId("mode").value };
}

function showHome() {
  abortPending();
  closeAnswer();
  view = null;
  input.value = "";
  reflectInput();
  byId("hits").replaceChildren();
  showSponsored(byId("sponsored"), []);
  showSponsored(byId("sponsored-below"), []);
  showFrame("home");
  document.title = "Bowerbird";
}

function showFrame(name) {
  document.documentElement.dataset.view = name;
  byId("operators").open = false;
}

function abortPending() {
  pending?.abort();
  pending = null;
  document.body.removeAttribute("aria-busy");
}

// One search.

async function open(request) {
  abortPending();
  const first = view === null;
  view = { request, cursor: null };
  input.value = request.q;
  reflectInput();
  for (const radio of document.getElementsByName("sort")) radio.checked = radio.value === request.sort;
  byId("mode").value = request.mode;
  document.title = `${request.q} · Bowerbird`;
  byId("page-title").textContent = `Results for ${request.q}`;
  if (first) showFrame("results");

  const known = kept.get(keyOf(request));
  if (known !== undefined) {
    showFirstPage(known.pages[0]);
    for (const page of known.pages.slice(1)) showNextPage(page);
    if (known.answer) replayAnswer(known.answer, showAnswerAds);
    else closeAnswer();
    return;
  }

  if (byId("always-answer").checked || looksLikeQuestion(request.q)) answer(request);
  else closeAnswer();

  byId("message").replaceChildren();
  byId("more").hidden = true;
  if (byId("hits").childElementCount === 0) {
    byId("results").hidden = true;
    showPlaceholders(6);
  }
  const page = await ask(request, { facets: ["author", "tags"], ads: true });
  if (page === null) return;
  keep(request).pages.push(page);
  showFirstPage(page);
  announce(page);
  if (!first) scrollTo({ top: 0 });
}

/** Asks the server; `null` when this was aborted or failed (then the failure is on screen). */
async function ask(request, more) {
  const controller = new AbortController();
  pending = controller;
  document.body.setAttribute("aria-busy", "true");
  try {
    return await postJson("v1/search", { ...request, limit: LIMIT, explain: true, ...more }, controller.signal);
  } catch (error) {
    if (!isAbort(error)) showFailure(error, more.cursor !== undefined);
    return null;
  } finally {
    if (pending === controller) abortPending();
  }
}

/** Ends the waiting: the grey lines go, the section of results comes. */
function showResults() {
  showPlaceholders(0);
  byId("results").hidden = false;
}

function showFirstPage(page) {
  showResults();
  byId("hits").replaceChildren();
  byId("message").replaceChildren();
  byId("summary").textContent = totalText(page.total, page.hits?.length ?? 0);
  showTiming(page.took_ms, page.stages_ms);
  showNotices(page);
  showFacets(page.facets, view.request.q);
  showSponsored(byId("sponsored"), page.ads?.blocks);
  showSponsored(byId("sponsored-below"), []);
  showNextPage(page);
  if (byId("hits").childElementCount === 0) showNothing();
}

function showNextPage(page) {
  const added = appendHits(page.hits ?? []);
  view.cursor = page.next_cursor ?? null;
  byId("more").hidden = view.cursor === null;
  markCitedHits();
  return added;
}

async function loadMore() {
  if (view?.cursor === null || pending !== null) return;
  const { request, cursor } = view;
  const button = byId("more");
  button.disabled = true;
  const page = await ask(request, { cursor, ads: false });
  button.disabled = false;
  if (page === null || view.request !== request) return;
  keep(request).pages.push(page);
  const before = byId("hits").childElementCount;
  const added = showNextPage(page);
  byId("status").textContent = `${plural(added, "more post")}`;
  byId("hits").children[before]?.querySelector(".hit")?.focus({ preventScroll: true });
}

async function answer(request) {
  const events = await askForAnswer(request.q, [...shownAdIds()], showAnswerAds);
  if (events !== null) keep(request).answer = events;
}

/** Ads that came with the answer go below the results: nothing moves, and no ad is shown twice. */
function showAnswerAds(blocks) {
  const shown = shownAdIds();
  showSponsored(byId("sponsored-below"), blocks.filter((block) => !shown.has(String(block?.ad_id))));
}

function keep(request) {
  const key = keyOf(request);
  if (!kept.has(key)) kept.set(key, { pages: [], answer: null });
  if (kept.size > KEPT_PAGES) kept.delete(kept.keys().next().value);
  return kept.get(key);
}

function announce(page) {
  const hits = page.hits?.length ?? 0;
  byId("status").textContent = hits === 0 ? "No posts found" : `${totalText(page.total, hits)}, the first ${hits} are shown`;
}

// Nothing found, and failures.

function showNothing() {
  const filtered = /(^|\s)(from|to|since|until|lang|min_\w+|has|is|attr\.\S+):|(^|\s)[-#@"]/.test(view.request.q);
  const advice = filtered
    ? "The operators in the query leave nothing over. Take one out, or look at the dates."
    : "Try other words, or describe what you mean: posts are matched by meaning too.";
  byId("message").replaceChildren(el("div", { class: "blank" }, el("h2", {}, "Nothing found"), el("p", {}, advice)));
}

function showFailure(error, morePosts) {
  const retry = el("button", { type: "button", class: "soft", onclick: () => (morePosts ? loadMore() : open(view.request)) }, "Try again");
  const wait = error.retryAfterS ? ` Try again in ${plural(error.retryAfterS, "second")}.` : "";
  const title = { 0: "No connection", 429: "Too busy right now", 503: "Not ready yet" }[error.status] ?? (error.status < 500 ? "This query was refused" : "The search failed");
  showResults();
  byId("message").replaceChildren(
    el(
      "div",
      { class: "blank", role: "alert", "data-code": error.code },
      el("h2", {}, title),
      el("p", {}, asSentence(error.message) + wait),
      error.requestId ? el("p", { class: "id" }, "Request ", el("code", {}, error.requestId)) : null,
      retry,
    ),
  );
  if (morePosts) return;
  byId("hits").replaceChildren();
  byId("notices").replaceChildren();
  byId("summary").textContent = "";
  byId("timing").hidden = true;
  byId("facets").hidden = true;
  showSponsored(byId("sponsored"), []);
}

// The box, and what does not change with the query.

function reflectInput() {
  byId("clear").hidden = input.value === "";
}

/** Someone who types on while a search runs no longer wants it; the results before it stay, without their dimming. */
function typed() {
  reflectInput();
  if (pending === null || input.value.trim() === view?.request.q) return;
  abortPending();
  showResults();
  byId("message").replaceChildren(el("p", { class: "hint" }, "Press Enter to search."));
}

function clear() {
  input.value = "";
  reflectInput();
  input.focus();
}

function openQuery(query) {
  input.value = query;
  submit();
}

function fillStart() {
  const examples = document.querySelector('meta[name="bowerbird:examples"]').content.split("|").filter((text) => text !== "");
  byId("examples").replaceChildren(
    ...examples.map((text) => el("li", {}, el("button", { type: "button", class: "chip", "data-query": text }, text))),
  );
  byId("operator-list").replaceChildren(
    ...OPERATORS.map((operator) =>
      el("li", {}, el("button", { type: "button", onclick: () => insertOperator(input, operator) }, el("code", {}, operator.shown), el("span", {}, operator.means))),
    ),
  );
}

async function showEngine() {
  let state;
  try {
    state = await getStatus("readyz");
  } catch {
    byId("engine").textContent = ""; // the footer stays quiet: a search says what is wrong
    return;
  }
  const { posts, vectors_pending: waiting, models = {}, providers = {}, demo } = state ?? {};
  const names = [models.embedder, models.reranker, models.generator].filter((name) => typeof name === "string" && name !== "");
  const used = typeof providers.used === "string" ? providers.used : null;
  const parts = [
    typeof posts === "number" ? plural(posts, "post") : null,
    waiting > 0 ? `${wholeNumber(waiting)} on their way into the meaning index` : null,
    names.length > 0 ? `${names.join(", ")}${used === null ? "" : ` on ${/cuda|gpu/i.test(used) ? "GPU" : used.toUpperCase()}`}` : null,
  ].filter((part) => part !== null);
  byId("engine").textContent = parts.join(" · ");
  byId("source-line").hidden = demo !== true;
}

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("options").addEventListener("change", (event) => {
  if (event.target.id !== "always-answer") submit({ q: view?.request.q ?? input.value.trim() });
  else {
    try {
      localStorage.setItem(ALWAYS_ANSWER, String(event.target.checked));
    } catch {
      // Storage is blocked: the choice lasts until the page closes.
    }
    if (event.target.checked && byId("answer").hidden && view !== null) answer(view.request);
  }
});
byId("options").addEventListener("submit", (event) => event.preventDefault());
byId("ask").addEventListener("click", () => {
  const q = input.value.trim();
  if (q !== "" && q !== view?.request.q) submit();
  if (view !== null && (byId("answer").hidden || byId("answer").dataset.state === "settled")) answer(view.request);
});
byId("more").addEventListener("click", loadMore);
byId("clear").addEventListener("click", clear);
input.addEventListener("input", typed);
document.addEventListener("click", (event) => {
  if (!event.target.closest("#operators")) byId("operators").open = false;
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  const term = event.target.closest("[data-query]");
  const home = event.target.closest("#home-link");
  if (!plain || (term === null && home === null)) return;
  event.preventDefault();
  if (term !== null) openQuery(term.dataset.query);
  else {
    goHome();
    input.focus();
  }
});
addEventListener("popstate", followAddress);
addEventListener("online", () => {
  if (view !== null && byId("message").querySelector('[data-code="unreachable"]') !== null) open(view.request);
});

try {
  byId("always-answer").checked = localStorage.getItem(ALWAYS_ANSWER) === "true";
} catch {
  // Storage is blocked: the switch starts off.
}
fillStart();
startSuggestions({ input, choose: () => submit() });
startKeys({ input, clear });
followAddress();
if (view === null && matchMedia("(hover: hover)").matches) input.focus();
showEngine();
