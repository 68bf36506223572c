// The list of posts: one card a hit, why it ranks where it does, facets, and how long each stage took.

import {
  asSentence, byId, compactNumber, duration, el, icon, plural, postText, shortAddress, timeElement, webAddress, webLink, wholeNumber,
} from "./dom.js";
import { hasTerm, operatorTerm, toggledTerm } from "./query.js";

/** A link to this page with another query; `app.js` opens those without leaving the page. */
export const searchLink = (query, ...children) =>
  el("a", { class: "term", href: `?${new URLSearchParams({ q: query })}`, "data-query": query }, ...children);

/** Appends the hits that are not on the page yet; returns how many were new. */
export function appendHits(hits) {
  const list = byId("hits");
  const shown = new Set([...list.querySelectorAll(".hit")].map((hit) => hit.dataset.postId));
  const best = bestScores(hits);
  let added = 0;
  for (const hit of hits) {
    const id = String(hit?.post?.id ?? hit?.id ?? "");
    if (id === "" || shown.has(id)) continue;
    shown.add(id);
    list.append(el("li", {}, hitCard(hit, id, shown.size, best)));
    added += 1;
  }
  return added;
}

/** The card of a post on this page, or `null`. */
export const findHit = (postId) =>
  [...byId("hits").querySelectorAll(".hit")].find((hit) => hit.dataset.postId === String(postId)) ?? null;

function hitCard(hit, id, place, best) {
  const post = hit.post ?? {};
  const rank = hit.rank ?? place;
  const author = post.author || "unknown";
  const why = el("div", { class: "why", id: `why-${place}`, hidden: true });
  const toggle = el("button", {
    type: "button",
    class: "link why-toggle",
    "aria-expanded": "false",
    "aria-controls": why.id,
    onclick: () => {
      const open = why.hidden;
      if (open && !why.hasChildNodes()) why.append(...whyThisRank(hit, id, best));
      why.hidden = !open;
      toggle.setAttribute("aria-expanded", String(open));
    },
  }, "Why this rank");
  return el(
    "article",
    { class: "hit", "data-post-id": id, tabindex: "-1", "aria-label": `Result ${rank}, ${author}` },
    el("div", { class: "rank", "aria-hidden": "true" }, el("span", {}, String(rank))),
    el(
      "div",
      { class: "body" },
      el("p", { class: "byline" }, post.author ? searchLink(operatorTerm("from", post.author), author) : author, timeElement(post.created_at)),
      el("p", { class: "text", dir: "auto", lang: post.lang }, postText(String(post.text ?? ""), hit.highlights, searchLink)),
      el("div", { class: "meta" }, terms(post), links(post), counts(post.counts), alike(hit.collapsed), toggle),
      why,
    ),
  );
}

/** Tags and mentions that the text itself does not show. */
function terms(post) {
  const text = String(post.text ?? "").toLowerCase();
  return [...(post.tags ?? []).map((tag) => `#${tag}`), ...(post.mentions ?? []).map((name) => `@${name}`)]
    .filter((term) => !text.includes(term.toLowerCase()))
    .map((term) => searchLink(term, term));
}

/** Links that the text itself does not show. */
function links(post) {
  return (post.links ?? [])
    .filter((link) => !String(post.text ?? "").includes(link))
    .map(webAddress)
    .filter((href) => href !== null)
    .map((href) => webLink(href, [icon("link"), shortAddress(href)]));
}

const COUNTS = { likes: "like", reposts: "repost", replies: "reply", views: "view" };

function counts(values) {
  return Object.entries(COUNTS)
    .filter(([name]) => values?.[name] > 0)
    .map(([name, noun]) => {
      const spoken = noun === "reply" && values[name] !== 1 ? `${wholeNumber(values[name])} replies` : plural(values[name], noun);
      return el("span", { class: "count", title: spoken }, icon(name), el("span", { "aria-hidden": "true" }, compactNumber(values[name])), el("span", { class: "unseen" }, spoken));
    });
}

/** "2 more posts say the same", with their ids for who wants them. */
function alike(collapsed) {
  if (!(collapsed?.count > 0)) return [];
  const said = `${plural(collapsed.count, "more post")} ${collapsed.count === 1 ? "says" : "say"} the same`;
  return [el("span", { class: "count alike", title: (collapsed.ids ?? []).join(", ") }, said)];
}

const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
const SCORES = [
  { name: "lexical", label: "Words", scale: "BM25", share: (value, best) => value / best },
  { name: "vector", label: "Meaning", scale: "cosine", share: (value) => value },
  { name: "fused", label: "Both together", scale: "0 to 1", share: (value, best) => value / best },
  { name: "rerank", label: "Read closely", scale: "cross-encoder logit", share: sigmoid },
  { name: "final", label: "Final score", scale: "with the page's best as full", share: (value, best) => value / best },
];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function bestScores(hits) {
  const best = {};
  for (const { name } of SCORES) {
    best[name] = Math.max(1e-9, ...hits.map((hit) => hit?.scores?.[name]).filter(isNumber));
  }
  return best;
}

function whyThisRank(hit, id, best) {
  const scores = hit.scores ?? {};
  const rows = SCORES.map(({ name, label, scale, share }) => {
    const value = scores[name];
    const part = isNumber(value) ? Math.min(1, Math.max(0, share(value, best[name]))) : 0;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, label, el("span", { class: "scale" }, scale)),
      el("td", {}, meter(part)),
      el("td", { class: "value" }, isNumber(value) ? value.toFixed(3) : "not used"),
    );
  });
  return [
    el("p", {}, hit.vector === "pending" ? "Found by its words; its meaning is not indexed yet." : foundBy(scores)),
    el("table", {}, el("caption", { class: "unseen" }, "Scores of this post"), el("tbody", {}, rows)),
    el("p", { class: "id" }, "Post ", el("code", {}, id)),
    hit.explain === undefined || hit.explain === null ? null : el("details", {}, el("summary", {}, "Every component"), el("pre", {}, JSON.stringify(hit.explain, null, 2))),
  ].filter((part) => part !== null);
}

function foundBy({ lexical, vector, rerank }) {
  const words = isNumber(lexical) && lexical > 0;
  const meaning = isNumber(vector);
  const first = words && meaning
    ? "Found by its words and by its meaning."
    : words
      ? "Found by its words."
      : meaning
        ? "It shares no word with the query: found by its meaning."
        : "Listed by the filters alone.";
  return isNumber(rerank) ? `${first} A model then read it next to the query.` : first;
}

function meter(share) {
  const bar = el("span", {});
  bar.style.setProperty("--share", share.toFixed(4));
  return el("span", { class: "meter", "aria-hidden": "true" }, bar);
}

/** "412 posts", or "At least 412 posts" where others were found by meaning and could not be counted. */
export function totalText(total, hits) {
  const value = total?.value ?? 0;
  return total?.relation === "eq" ? plural(value, "post") : `At least ${plural(Math.max(value, hits), "post")}`;
}

/** How long the search took, as a bar over its stages with a list behind it. */
export function showTiming(tookMs, stagesMs) {
  const stages = Object.entries(stagesMs ?? {}).filter(([, ms]) => isNumber(ms) && ms >= 0);
  byId("timing").hidden = !isNumber(tookMs);
  byId("took").textContent = isNumber(tookMs) ? duration(tookMs) : "";
  byId("stage-bar").replaceChildren(
    ...stages.filter(([, ms]) => ms > 0).map(([, ms]) => {
      const part = el("span", {});
      part.style.setProperty("--share", String(ms));
      return part;
    }),
  );
  byId("stages").replaceChildren(
    ...stages.map(([name, ms]) => el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, duration(ms)))),
  );
}

const DEGRADED = {
  rerank: "posts were not read closely by the reranking model",
  embed: "only words were matched, not meaning",
  vector: "only words were matched, not meaning",
  lexical: "only meaning was matched, not words",
};

/** What the reader should know about how the query was read and which stage was skipped. */
export function showNotices(response) {
  const notices = [];
  const meant = response.did_you_mean?.text;
  if (typeof meant === "string") notices.push(el("p", { class: "notice meant" }, "Did you mean ", searchLink(meant, meant), "?"));
  const skipped = [...new Set((response.degraded ?? []).map((stage) => DEGRADED[stage] ?? `the step “${stage}” was skipped`))];
  if (skipped.length > 0) {
    notices.push(el("p", { class: "notice degraded" }, `This time ${skipped.join(", and ")}. The results may be less precise.`));
  }
  const { note, ignored } = response.query ?? {};
  if (note) notices.push(el("p", { class: "notice" }, asSentence(note)));
  for (const { part, reason } of ignored ?? []) {
    notices.push(el("p", { class: "notice" }, "Not used: ", el("code", {}, String(part)), ` ${reason ?? ""}`));
  }
  byId("notices").replaceChildren(...notices);
}

const FACETS = {
  author: { title: "Accounts", term: (value) => operatorTerm("from", value) },
  tags: { title: "Tags", term: (value) => `#${value}` },
};

/** The most frequent accounts and tags; each adds itself to the query, or takes itself out. */
export function showFacets(facets, query) {
  const groups = Object.entries(FACETS).map(([name, { title, term }]) => {
    const values = (facets?.[name] ?? []).filter((entry) => entry?.value);
    if (values.length === 0) return null;
    const chips = values.slice(0, 8).map(({ value, count }) => {
      const chosen = hasTerm(query, term(value));
      const button = el(
        "button",
        { type: "button", class: "chip", "aria-pressed": String(chosen), "data-query": toggledTerm(query, term(value)) },
        name === "tags" ? `#${value}` : value,
        el("span", { class: "amount" }, compactNumber(count)),
      );
      return el("li", {}, button);
    });
    return el("div", { class: "facet" }, el("h2", {}, title), el("ul", { role: "list" }, chips));
  }).filter((group) => group !== null);
  byId("facets").hidden = groups.length === 0;
  byId("facets").replaceChildren(...groups);
}

/** Grey lines in place of a first page that is on its way; none when `count` is 0. */
export function showPlaceholders(count) {
  const line = () => el("li", { class: "placeholder" }, el("span", {}), el("span", {}), el("span", {}));
  byId("loading").hidden = count === 0;
  byId("loading").replaceChildren(...Array.from({ length: count }, line));
}
