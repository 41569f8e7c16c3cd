// Draws the charts, and lets a click change the page in place. Without it everything but the charts works all the same.
"use strict";

function draw() {
  for (const box of document.querySelectorAll(".vega[data-spec]")) {
    if (box.dataset.drawn || !window.vegaEmbed) continue;
    box.dataset.drawn = "under way";
    const spec = JSON.parse(document.getElementById(box.dataset.spec).textContent);
    if (box.clientWidth < 520) for (const layer of spec.layer) {
      const legend = layer.encoding && layer.encoding.color && layer.encoding.color.legend;
      if (legend) legend.columns = 2;
    }
    // `ast`: no text becomes a program, as the page's policy wants.
    vegaEmbed(box, spec, {renderer: "svg", actions: false, ast: true, tooltip: {theme: "custom"}}).then(result => {
      box.dataset.drawn = "drawn";
      result.view.addEventListener("click", (event, item) => {
        const href = item && item.datum && item.datum.href;
        if (href) visit(new URL(href, location));
      });
    }).catch(error => { box.textContent = "The chart could not be drawn; the figures are in the tables. " + error; });
  }
}

async function visit(url, kept) {
  document.body.classList.add("busy");
  try {
    const answer = await fetch(url, {headers: {"x-requested-with": "explore"}});
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!found.querySelector("main")) { location.assign(url); return; }
    for (const part of ["header", "main"]) document.querySelector(part).replaceWith(found.querySelector(part));
    document.title = found.title;
    const named = found.querySelector("link[rel=canonical]");
    const address = named ? new URL(named.getAttribute("href"), location) : url;
    if (!kept) history.pushState(null, "", address);
    document.getElementById("live").textContent = found.title;
    if (!kept) { document.getElementById("main").focus({preventScroll: true}); scrollTo(0, 0); }
    // The figures are on the screen before the charts are at work.
    requestAnimationFrame(() => setTimeout(draw));
  } finally {
    document.body.classList.remove("busy");
  }
}

function ours(link) {
  return link.origin === location.origin && !link.hasAttribute("download") && !link.getAttribute("href").startsWith("#");
}

document.addEventListener("click", event => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || !ours(link)) return;
  event.preventDefault();
  visit(new URL(link.href));
});

document.addEventListener("submit", event => {
  const form = event.target;
  if (form.method !== "get") return;
  event.preventDefault();
  const url = new URL(form.action);
  url.search = new URLSearchParams(new FormData(form));
  visit(url);
});

document.addEventListener("change", event => {
  if (event.target.matches("form.controls select")) event.target.form.requestSubmit();
});

addEventListener("popstate", () => visit(new URL(location), true));
const canonical = document.querySelector("link[rel=canonical]");
if (canonical && location.pathname !== "/static") history.replaceState(null, "", canonical.getAttribute("href"));
draw();
