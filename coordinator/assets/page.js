// Keeps a page current: on an event it is fetched again, and what stands in elements with data-live is taken over. Without scripts
// every page is whole; it only stands still.

const LEAST_MS = 1000;

/** Takes over what changed of the page as it is now. */
function takeOver(fresh) {
  for (const element of document.querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`[data-live="${element.dataset.live}"]`);
    if (!other || element.innerHTML === other.innerHTML) continue;
    // What somebody types or has opened stays.
    if (element.contains(document.activeElement) && document.activeElement.matches("input, textarea")) continue;
    const known = new Set([...element.querySelectorAll("tr[data-key]")].map((row) => row.dataset.key));
    const had = known.size > 0 || element.querySelector("table") === null;
    const rows = [...other.querySelectorAll("tr[data-key]")].filter((row) => had && !known.has(row.dataset.key));
    rows.forEach((row) => row.classList.add("new"));
    element.replaceChildren(...other.childNodes);
  }
  offerCopies();
}

/** Follows the events that change this page. */
function follow(which) {
  const link = document.getElementById("link");
  let fetchedAt = 0, due = null, fetching = false, again = false;

  async function refresh() {
    due = null;
    if (fetching) { again = true; return; }
    fetching = true;
    fetchedAt = performance.now();
    try {
      const here = new URL(location.href);
      here.searchParams.delete("did");
      const answer = await fetch(here, { headers: { accept: "text/html" } });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) {
        takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
        link.hidden = true;
      }
    } catch {
      lost();
    } finally {
      fetching = false;
      if (again) { again = false; wake(); }
    }
  }

  // A page is fetched once a second at most, however fast a scan goes, and not at all while nobody sees it.
  function wake() {
    if (due !== null || document.hidden) return;
    due = setTimeout(refresh, Math.max(0, fetchedAt + LEAST_MS - performance.now()));
  }

  function lost() {
    link.textContent = "The coordinator does not answer. This page goes on by itself once it does.";
    link.hidden = false;
  }

  let source = null;
  function connect() {
    source = new EventSource(which === "all" ? "/api/v1/events" : `/api/v1/events?${which}`);
    for (const kind of ["progress", "findings", "scan", "agent", "snapshot"]) source.addEventListener(kind, wake);
    source.addEventListener("open", () => { link.hidden = true; wake(); });
    source.addEventListener("error", () => {
      lost();
      // A browser gives up on a refusal: a coordinator that starts again may refuse at first.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2 * LEAST_MS);
    });
  }
  connect();
  document.addEventListener("visibilitychange", wake);
  // Rates and remaining times change although nothing is told.
  setInterval(() => { if (document.querySelector(".badge.running")) wake(); }, 2 * LEAST_MS);
  addEventListener("pagehide", () => source.close());
}

/** Buttons that copy: there only where they work. */
function offerCopies() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
  }
}

/** Shows what a scan would be while it is typed. */
function check(form) {
  const preview = document.querySelector("[data-preview]");
  let timer = null, asked = 0;
  async function ask() {
    const number = ++asked;
    const typed = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(`${form.dataset.check}?${typed}`, { headers: { accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-preview]");
      // An answer that was overtaken says nothing any more.
      if (fresh && number === asked) { preview.replaceChildren(...fresh.childNodes); offerCopies(); }
    } catch { /* The next key asks again. */ }
  }
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 250); });
}

document.addEventListener("submit", (event) => {
  const asks = event.target.dataset.confirm;
  if (asks && !confirm(asks)) event.preventDefault();
});
offerCopies();
const follows = document.body.dataset.follows;
if (follows) follow(follows);
document.querySelectorAll("form[data-check]").forEach(check);
