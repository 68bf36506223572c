// Completions under the box while someone types: a combobox with a list, after the ARIA Authoring Practices Guide
// ("Editable Combobox With List Autocomplete"). The focus stays in the box; the arrows move a mark through the list.

import { byId, el } from "./dom.js";
import { getJson, isAbort } from "./net.js";

const WAIT_MS = 80; // between the last key and the question, so that a fast typist asks once a word
const LIMIT = 8;
const KINDS = { query: "asked before", tag: "tag", user: "account", word: null };

/**
 * Completes `input` through the list `#suggestions`; `choose()` is called when the box holds the suggestion taken.
 */
export function startSuggestions({ input, choose }) {
  const list = byId("suggestions");
  let timer = null;
  let asking = null;
  let typed = ""; // what the list completes
  let active = -1;

  const options = () => [...list.children];

  function stop() {
    clearTimeout(timer);
    asking?.abort();
    asking = null;
  }

  function close() {
    stop();
    list.hidden = true;
    list.replaceChildren();
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  async function ask() {
    stop();
    typed = input.value;
    if (typed.trim() === "" || input.selectionEnd !== typed.length) return close();
    const controller = new AbortController();
    asking = controller;
    let found = [];
    try {
      const page = await getJson(`v1/suggest?${new URLSearchParams({ q: typed, limit: LIMIT })}`, controller.signal);
      found = page?.suggestions ?? [];
    } catch (error) {
      if (isAbort(error)) return;
      // A search says what is wrong with the server; a list that stays away says enough.
    }
    if (asking !== controller) return;
    asking = null;
    if (input.value === typed && document.activeElement === input && found.length > 0) show(found);
    else close();
  }

  function show(found) {
    list.replaceChildren(...found.map((suggestion, at) => option(suggestion, at)));
    list.hidden = false;
    active = -1;
    input.setAttribute("aria-expanded", "true");
    input.removeAttribute("aria-activedescendant");
  }

  function option({ text, kind, highlight }, at) {
    const points = [...text];
    const label = KINDS[kind];
    const item = el(
      "li",
      { id: `suggestion-${at}`, role: "option", "aria-selected": "false", "data-text": text, "data-kind": kind },
      el("span", { class: "suggested" }, points.slice(0, highlight).join(""), el("b", {}, points.slice(highlight).join(""))),
      label ? el("span", { class: "kind" }, label) : null,
    );
    return item;
  }

  function mark(at) {
    options()[active]?.setAttribute("aria-selected", "false");
    active = at;
    const item = options()[active];
    if (item === undefined) {
      input.removeAttribute("aria-activedescendant");
      input.value = typed;
      return;
    }
    item.setAttribute("aria-selected", "true");
    item.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", item.id);
    input.value = item.dataset.text;
  }

  function take(item) {
    const { text } = item.dataset;
    close();
    input.value = text;
    choose();
  }

  input.addEventListener("input", () => {
    stop();
    timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    // What is asked for now would come too late.
    if (event.key === "Enter" || event.key === "Escape") stop();
    if (list.hidden) return;
    const last = options().length - 1;
    if (event.key === "ArrowDown") mark(active === last ? -1 : active + 1);
    else if (event.key === "ArrowUp") mark(active === -1 ? last : active - 1);
    else if (event.key === "Enter" && active >= 0) take(options()[active]);
    else if (event.key === "Escape") {
      input.value = typed;
      close();
    } else {
      if (event.key === "Enter" || event.key === "Tab") close();
      return;
    }
    event.preventDefault();
  });
  // The box must not lose the focus to the list before the click has come.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const item = event.target.closest("[role=option]");
    if (item !== null) take(item);
  });
  input.addEventListener("blur", close);
  input.form.addEventListener("submit", close);
}
