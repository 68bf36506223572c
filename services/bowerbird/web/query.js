// The query box: which operators exist, inserting them, adding and removing terms, and telling a question from words.

/** `insert` goes into the box; the part between `[` and `]` is selected so that typing replaces it. */
export const OPERATORS = [
  { shown: "\"phrase\"", insert: "\"[exact words]\"", means: "these words in this order" },
  { shown: "-word", insert: "-[word]", means: "without this word" },
  { shown: "OR", insert: "OR []", means: "either side" },
  { shown: "from:", insert: "from:[account]", means: "written by" },
  { shown: "to:", insert: "to:[account]", means: "addressed to" },
  { shown: "#tag", insert: "#[tag]", means: "carries the hashtag" },
  { shown: "@user", insert: "@[user]", means: "mentions the account" },
  { shown: "since:", insert: "since:[2014-01-01]", means: "on or after the day" },
  { shown: "until:", insert: "until:[2015-01-01]", means: "before the day" },
  { shown: "lang:", insert: "lang:[en]", means: "in this language" },
  { shown: "min_likes:", insert: "min_likes:[10]", means: "liked at least so often" },
  { shown: "has:links", insert: "has:links[]", means: "holds a link" },
  { shown: "is:reply", insert: "is:reply[]", means: "answers another post" },
  { shown: "attr.name:value", insert: "attr.[name]:value", means: "an attribute has the value" },
];

/** Puts an operator at the caret, apart from its neighbours; selected text moves into a phrase or operator. */
export function insertOperator(input, { insert }) {
  const { value, selectionStart: start, selectionEnd: end } = input;
  const open = insert.indexOf("[");
  const close = insert.indexOf("]");
  const chosen = value.slice(start, end).trim();
  const example = insert.slice(open + 1, close);
  const inner = chosen !== "" && example !== "" ? chosen : example;
  const kept = chosen !== "" && example === "" ? `${chosen} ` : "";
  const before = start > 0 && !/[\s(]/.test(value[start - 1]) ? " " : "";
  const after = end < value.length && !/[\s)]/.test(value[end]) ? " " : "";
  const head = before + kept + insert.slice(0, open);
  input.focus();
  input.setRangeText(head + inner + insert.slice(close + 1) + after, start, end, "end");
  const from = start + head.length;
  input.setSelectionRange(from, from + inner.length);
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

const terms = (query) => query.match(/\S*"[^"]*"|\S+/g) ?? [];
const sameTerm = (a, b) => a.toLowerCase() === b.toLowerCase();

/** Whether the query has this term (letter case aside). */
export const hasTerm = (query, term) => terms(query).some((word) => sameTerm(word, term));

/** The query with the term added, or without it if it was there. */
export function toggledTerm(query, term) {
  const words = terms(query);
  const rest = words.filter((word) => !sameTerm(word, term));
  return (rest.length < words.length ? rest : [...words, term]).join(" ");
}

/** `from:name`, quoted where the name has a space. */
export const operatorTerm = (name, value) => `${name}:${/\s/.test(value) ? `"${value}"` : value}`;

const OPENERS =
  /^(who|whom|whose|what|when|where|why|which|how|is|are|am|was|were|do|does|did|can|could|should|would|will|may|has|have|had|est-ce|quel|quelle|quels|quelles|pourquoi|comment|combien|quand|où|qui)$/i;

/** Whether the words read like a question: a question mark, or a question word in front of at least two others. */
export function looksLikeQuestion(query) {
  const words = terms(query).filter((word) => !/^([-#@]|\w+(\.\w+)?:)/.test(word) && word !== "OR");
  if (words.length === 0) return false;
  return /\?["')]*$/.test(words.at(-1)) || (words.length >= 3 && OPENERS.test(words[0]));
}
