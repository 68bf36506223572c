// Sponsored blocks: always in a region of their own, and counted as seen only when they were.

import { el, ownOrWebAddress, plural } from "./dom.js";
import { getJson } from "./net.js";

const VISIBLE_SHARE = 0.5;
const VISIBLE_MS = 1000;

/**
 * Shows the blocks in a region, or hides the region when there are none.
 *
 * Blocks without a label, a text or a usable link are left out rather than shown half.
 */
export function showSponsored(region, blocks) {
  for (const old of region.querySelectorAll(".ad")) forget(old);
  const ads = (blocks ?? []).filter((block) => block?.headline && ownOrWebAddress(block.click_url) !== null).map(adCard);
  region.replaceChildren(...ads);
  region.hidden = ads.length === 0;
  for (const ad of ads) watch(ad);
}

/** The ids of the ads on the page. */
export const shownAdIds = () => new Set([...document.querySelectorAll(".ad")].map((ad) => ad.dataset.adId));

function adCard(block) {
  const href = ownOrWebAddress(block.click_url);
  const link = (...children) => el("a", { href, rel: "sponsored noopener nofollow", target: "_blank" }, ...children);
  return el(
    "article",
    { class: "ad", "data-ad-id": block.ad_id, "data-slot": block.slot, "data-impression": ownOrWebAddress(block.impression_url) },
    el("p", { class: "ad-label" }, el("strong", {}, block.label || "Sponsored"), el("span", { class: "advertiser" }, block.advertiser ?? "")),
    el("h2", {}, link(block.headline)),
    block.text ? el("p", { class: "ad-text" }, block.text) : null,
    block.display_url ? el("p", { class: "ad-address" }, link(block.display_url)) : null,
    el("p", { class: "paid-by" }, `Paid for by ${block.paid_by || block.advertiser || "the advertiser"}`),
    block.why || block.wording ? whyThis(block) : null,
  );
}

/** The reason at hand, and the auction behind it once it is asked for. */
function whyThis(block) {
  const auction = el("p", { class: "auction" });
  const details = el("details", {}, el("summary", {}, "Why this ad?"), el("p", {}, block.why ?? ""), wordingInWords(block.wording), auction);
  if (typeof block.auction_id !== "string") return details;
  details.addEventListener("toggle", async () => {
    if (!details.open || auction.textContent !== "") return;
    try {
      auction.textContent = auctionInWords(await getJson(`v1/explain/${encodeURIComponent(block.auction_id)}`), block);
    } catch {
      auction.textContent = ""; // the log is not kept, or not for this reader: the reason above stands
    }
  });
  return details;
}

/** Who wrote the text, when it was not the advertiser. */
function wordingInWords(wording) {
  if (wording?.origin !== "generated") return null;
  return el("p", { class: "wording" }, `The text was written by a model (${wording.model}) from the advertiser’s facts: “${wording.fact}”`);
}

/** What decided, without anybody's bid. */
function auctionInWords(decision, block) {
  const own = (decision.candidates ?? []).find((candidate) => candidate.ad === block.ad_id);
  const award = (decision.awards ?? []).find((won) => won.ad === block.ad_id);
  if (own === undefined || award === undefined) return "";
  const matched = own.keyword ? `The advertiser chose the words “${own.keyword}”.` : "It was found by what it means, not by chosen words.";
  const others = decision.candidates.length - 1;
  const field = others === 0 ? "No other ad fitted as well." : `${plural(others, "other ad")} took part.`;
  const drawn = decision.rules?.mechanism === "segment" ? `It was drawn, with a chance of ${Math.round(award.propensity * 100)} in 100.` : "";
  const price = award.price_set_by
    ? "What it pays was set by another advertiser's offer, not by its own."
    : award.price_set_by_no_ad
      ? "What it pays was set by what showing no ad is worth here."
      : "It pays the least price there is.";
  const again = decision.replay?.same ? "The auction was run again just now from its log: same winner, same price." : "Run again from its log, the auction came out differently: that should not be.";
  return `${matched} Its relevance here is ${Math.round(own.relevance * 100)} of 100. ${field} ${drawn} ${price} ${again}`;
}

const reported = new Set();
const timers = new Map();
const visibleShare = new Map();

/** Starts or stops the second an ad has to be in view on a page that is itself in view. */
function review(ad) {
  const seen = !document.hidden && (visibleShare.get(ad) ?? 0) >= VISIBLE_SHARE;
  if (!seen) {
    clearTimeout(timers.get(ad));
    timers.delete(ad);
  } else if (!timers.has(ad)) {
    timers.set(ad, setTimeout(() => report(ad), VISIBLE_MS));
  }
}

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      visibleShare.set(entry.target, entry.intersectionRatio);
      review(entry.target);
    }
  },
  { threshold: [0, VISIBLE_SHARE, 1] },
);

document.addEventListener("visibilitychange", () => {
  for (const ad of visibleShare.keys()) review(ad);
});

function watch(ad) {
  const url = ad.dataset.impression;
  if (url === undefined || reported.has(url)) return;
  observer.observe(ad);
}

function forget(ad) {
  observer.unobserve(ad);
  clearTimeout(timers.get(ad));
  timers.delete(ad);
  visibleShare.delete(ad);
}

function report(ad) {
  const url = ad.dataset.impression;
  forget(ad);
  if (reported.has(url)) return;
  reported.add(url);
  ad.dataset.seen = "true";
  // The beacon survives leaving the page; where the browser refuses it, a request that may outlive the page does.
  if (!navigator.sendBeacon(url)) fetch(url, { method: "POST", keepalive: true }).catch(() => reported.delete(url));
}
