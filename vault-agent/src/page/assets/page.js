// Renews <main> when the agent has news. Without this script the page is the same, and a link
// renews it.
"use strict";
(() => {
  const main = () => document.querySelector("main");
  if (!window.EventSource || !main() || !main().dataset.live) return;
  const news = new EventSource(main().dataset.live);
  let busy = false;
  let due = false;
  // What somebody has typed or chosen stays: the page stands still from then on.
  let typed = false;

  const note = document.getElementById("ended");
  const lost = (is) => { note.textContent = is ? note.dataset.text : ""; };
  const end = () => {
    news.close();
    lost(true);
  };

  // What has the focus keeps it: the same place of the same kind in the new content.
  const places = (within) => [...within.querySelectorAll("a, button, input, select, summary, [tabindex]")];

  const renew = async () => {
    if (typed) return;
    if (busy || document.hidden) {
      due = true;
      return;
    }
    busy = true;
    due = false;
    try {
      const answer = await fetch(location.href, { headers: { "x-live": "1" }, redirect: "error" });
      if (answer.status === 403) return end();
      lost(false);
      if (!answer.ok) return;
      const text = await answer.text();
      const next = new DOMParser().parseFromString(text, "text/html").querySelector("main");
      const now = main();
      if (typed || !next || next.innerHTML === now.innerHTML) return;
      const at = places(now).indexOf(document.activeElement);
      const left = [...now.querySelectorAll(".wide")].map((it) => it.scrollLeft);
      now.replaceWith(document.adoptNode(next));
      [...next.querySelectorAll(".wide")].forEach((it, n) => { it.scrollLeft = left[n] || 0; });
      const place = at < 0 ? null : places(next)[at];
      if (place) place.focus({ preventScroll: true });
    } catch {
      lost(true);
    } finally {
      busy = false;
    }
  };

  news.addEventListener("change", renew);
  news.addEventListener("end", end);
  news.addEventListener("error", renew);
  document.addEventListener("input", () => { typed = true; });
  document.addEventListener("visibilitychange", () => { if (due) renew(); });
})();
