// The advertiser's console: campaigns, spend against the plan, search terms, and why a campaign is not serving.

import { pacingChart, planned } from "./chart.js";
import { asSentence, byId, el, money } from "./dom.js";

const KEY = "bowerbird-key";
const told = byId("told");
let chosen = null;

/** A call of the API; a key is asked for where the server wants one. */
async function api(method, path, body) {
  const headers = { accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const answer = await response.json().catch(() => null);
  if (response.status === 401) byId("key-form").hidden = false;
  if (!response.ok) throw new Error(answer?.error?.message ?? `the server answered ${response.status}`);
  return answer;
}

/** All campaigns, page after page. */
async function bookings() {
  const all = [];
  for (let cursor = ""; cursor !== undefined; ) {
    const page = await api("GET", `v1/campaigns?limit=100${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
    all.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  }
  return all.filter((campaign) => campaign.status !== "removed");
}

const today = () => new Date().toISOString().slice(0, 10);

async function show() {
  try {
    const [campaigns, report] = await Promise.all([bookings(), api("GET", `v1/reports?by=campaign&from=${today()}&to=${today()}`)]);
    const rows = new Map(report.rows.map((row) => [row.key, row]));
    byId("campaigns").tBodies[0].replaceChildren(...campaigns.map((campaign) => line(campaign, rows.get(campaign.id))));
    told.textContent = campaigns.length === 0 ? "Nothing is booked yet." : "";
    byId("key-form").hidden = true;
  } catch (error) {
    told.textContent = asSentence(error.message);
  }
}

function line(campaign, row) {
  const { spent = 0, impressions = 0, clicks = 0 } = row ?? {};
  const paused = campaign.status === "paused";
  const turn = async () => {
    try {
      await api("PATCH", `v1/campaigns/${encodeURIComponent(campaign.id)}`, { status: paused ? "enabled" : "paused" });
      await show();
    } catch (error) {
      told.textContent = asSentence(error.message);
    }
  };
  return el(
    "tr",
    { "data-campaign": campaign.id, "data-status": campaign.status },
    el("th", { scope: "row" }, el("button", { type: "button", class: "open", onclick: () => open(campaign, spent) }, campaign.name)),
    el("td", {}, campaign.status),
    el("td", {}, `${money(campaign.daily_budget_micros)} ${campaign.currency}`),
    el("td", {}, money(spent)),
    el("td", {}, String(impressions)),
    el("td", {}, String(clicks)),
    el("td", {}, clicks === 0 ? "–" : money(BigInt(spent) / BigInt(clicks))),
    el("td", {}, el("button", { type: "button", class: "turn", onclick: turn }, paused ? "Resume" : "Pause")),
  );
}

async function open(campaign, spent) {
  chosen = campaign;
  byId("detail").hidden = false;
  byId("detail-name").textContent = campaign.name;
  byId("why").textContent = "";
  byId("pacing").replaceChildren();
  byId("terms").tBodies[0].replaceChildren();
  byId("plan").textContent = against(campaign, BigInt(spent), minutesOf(new Date()));
  byId("why-q").focus();
  const of = `campaign=${encodeURIComponent(campaign.id)}`;
  try {
    const day = today();
    const [hours, terms] = await Promise.all([
      api("GET", `v1/reports?by=hour&${of}&from=${day}&to=${day}`),
      api("GET", `v1/reports?by=search_term&${of}`),
    ]);
    if (chosen !== campaign) return; // another one was opened meanwhile
    showPacing(campaign, hours.rows);
    const cells = (row) => [row.key || "(not kept)", row.detail || "by meaning", String(row.impressions), String(row.clicks), money(row.spent)];
    byId("terms").tBodies[0].replaceChildren(...terms.rows.map((row) => el("tr", {}, ...cells(row).map((text) => el("td", {}, text)))));
  } catch (error) {
    told.textContent = asSentence(error.message);
  }
}

/** Minutes since midnight UTC. */
const minutesOf = (now) => now.getUTCHours() * 60 + now.getUTCMinutes();

/** Today's spend beside the plan, in a sentence. */
function against(campaign, spent, minutes) {
  const budget = BigInt(campaign.daily_budget_micros);
  return campaign.pacing === "asap"
    ? `${money(spent)} of ${money(budget)} spent; it is spent as fast as it can be.`
    : `${money(spent)} spent by now; spread evenly over the day (UTC) it would be ${money(planned(budget, minutes))} of ${money(budget)}.`;
}

function showPacing(campaign, rows) {
  const now = minutesOf(new Date());
  const hours = new Map(rows.map((row) => [Number(row.key.slice(11)), BigInt(row.spent)]));
  const spent = [...hours.values()].reduce((sum, micros) => sum + micros, 0n);
  byId("plan").textContent = against(campaign, spent, now);
  const plan = { budget: BigInt(campaign.daily_budget_micros), even: campaign.pacing !== "asap", currency: campaign.currency, now };
  byId("pacing").replaceChildren(pacingChart(hours, plan));
}

/** What each reason means, and what to do about it. */
const REASONS = {
  refused: "No ad stands beside this text: it speaks of grave things, or could not be judged.",
  account_paused: "The account is paused. Resume it.",
  paused: "The campaign is paused. Resume it.",
  not_started: "Its first day is still to come.",
  ended: "Its last day is over. Set a later one.",
  group_paused: "Its ad group is paused. Resume it.",
  no_active_ad: "It has no ad that is enabled. Add or resume one.",
  under_review: "Its ad waits for a review, or did not pass it. See the reason at the ad.",
  budget_exhausted: "One more click might not fit into its budget. Raise the budget, or wait for tomorrow.",
  language: "It is for other languages, or the reader's is not known.",
  country: "It is for other countries, or the reader's is not known.",
  excluded_country: "It leaves this country out.",
  device: "It is for other devices.",
  hours: "It is for other hours of the week.",
  topic: "It is for other topics.",
  excluded_topic: "It leaves out a topic of this search.",
  block_list: "A post beside it, or a rule of the buyer, is on a block list.",
  unsafe_neighbour: "A post beside it is not fit for ads.",
  no_match: "No keyword matches, and its meaning is too far. Add a keyword, or lower semantic_threshold.",
  negative_keyword: "One of its negative keywords is in the search.",
  frequency_cap: "This reader has seen it often enough.",
  no_user: "It has a frequency cap, and the platform did not say who is reading.",
  not_scored: "There was no time to judge it; others were nearer.",
  below_relevance: "It does not fit this search well enough. Say in headline or text what is searched for.",
  below_reserve: "What it bids now is under the least price. Raise the bid; late in a day that spends fast, pacing bids less.",
  same_advertiser: "Another ad of the same advertiser took part in its place.",
  lost_auction: "Others offered more for this place. Raise the bid, or make the ad clicked more often.",
  served: "It is served for this search.",
};

byId("why-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = byId("why");
  answer.textContent = "Asking";
  try {
    const slate = await api("POST", "v1/decide", { q: byId("why-q").value, explain: true, test: true });
    const found = slate.explain?.campaigns?.find((one) => one.campaign === chosen?.id);
    const reason = found?.reason;
    const relevance = found?.scores ? ` Its relevance is ${Math.round(found.scores.relevance * 100)} of 100.` : "";
    answer.dataset.reason = reason ?? "";
    answer.textContent = (REASONS[reason] ?? "The server does not say.") + relevance;
  } catch (error) {
    answer.textContent = asSentence(error.message);
  }
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  show();
});

show();
