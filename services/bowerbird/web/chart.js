// Spend of a day by the hour against the plan, as a drawing whose label says the same in words.

import { money, svgEl } from "./dom.js";

const WIDTH = 440;
const HEIGHT = 170;
const LEFT = 8;
const RIGHT = 432;
const TOP = 22;
const BOTTOM = 146;
const DAY_MINUTES = 1440;

const clock = (minutes) => `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;

/** What the plan has spent by `minutes` after midnight UTC: the same in every minute of the day. */
export const planned = (budget, minutes) => (budget * BigInt(minutes)) / BigInt(DAY_MINUTES);

/** Spent by the end of every hour so far and by now, from midnight on, as `[minutes, micros]`; `hours` is by hour of the day. */
function cumulated(hours, now) {
  const points = [[0, 0n]];
  let sum = 0n;
  for (let hour = 0; hour < 24; hour += 1) {
    sum += hours.get(hour) ?? 0n;
    const end = Math.min((hour + 1) * 60, now);
    if (hour * 60 < now || sum !== points.at(-1)[1]) points.push([end, sum]);
  }
  return points;
}

/** The drawing in words: the sum, the plan, and each moment by which more was spent. */
function inWords(points, { budget, even, currency, now }) {
  const total = points.at(-1)[1];
  const rises = points.filter(([, sum], at) => at > 0 && sum !== points[at - 1][1]);
  const plan = even ? `; spread evenly it is ${money(planned(budget, now))} by then and ${money(budget)} by 24:00` : "";
  const hours = rises.length === 0 ? "" : ` Spent by the hour: ${rises.map(([minutes, sum]) => `${money(sum)} by ${clock(minutes)}`).join(", ")}.`;
  return `${money(total)} of ${money(budget)} ${currency} spent by ${clock(now)} UTC${plan}.${hours}`;
}

/**
 * Draws `hours`, a map of spend by hour of the UTC day, up to `now` in minutes. With `even` the plan is a line from
 * nothing at midnight to the budget at the end of the day. Money is exact but for where it is drawn.
 */
export function pacingChart(hours, plan) {
  const { budget, even, now } = plan;
  const points = cumulated(hours, now);
  const total = points.at(-1)[1];
  const most = total > budget ? total : budget;
  const x = (minutes) => LEFT + ((RIGHT - LEFT) * minutes) / DAY_MINUTES;
  const y = (sum) => BOTTOM - ((BOTTOM - TOP) * Number((sum * 10000n) / most)) / 10000;
  const [endX, endY] = [x(points.at(-1)[0]), y(total)];
  const words = (at, height, anchor, text) => svgEl("text", { x: at, y: height, "text-anchor": anchor }, text);
  const line = (name, x1, y1, x2, y2) => svgEl("line", { class: name, x1, y1, x2, y2 });
  const ticks = [0, 6, 12, 18, 24].flatMap((hour) => {
    const anchor = { 0: "start", 24: "end" }[hour] ?? "middle";
    return [line("frame", x(hour * 60), BOTTOM, x(hour * 60), BOTTOM + 4), words(x(hour * 60), BOTTOM + 18, anchor, `${hour}:00`)];
  });
  return svgEl(
    "svg",
    { class: "pacing", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": inWords(points, plan) },
    line("frame", LEFT, BOTTOM, RIGHT, BOTTOM),
    line("limit", LEFT, y(budget), RIGHT, y(budget)),
    words(LEFT, y(budget) - 6, "start", `budget ${money(budget)}`),
    ticks,
    even ? line("planned", x(0), y(0n), x(DAY_MINUTES), y(budget)) : null,
    even ? words(x(1020), y(planned(budget, 1080)) - 8, "end", "plan") : null,
    svgEl("polyline", { class: "spent", points: points.map(([minutes, sum]) => `${x(minutes)},${y(sum)}`).join(" ") }),
    svgEl("circle", { class: "now", cx: endX, cy: endY, r: 4 }),
    words(endX, endY - 9, endX > WIDTH * 0.8 ? "end" : endX < WIDTH * 0.2 ? "start" : "middle", money(total)),
  );
}
