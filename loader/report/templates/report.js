"use strict";
// Draws the plots: each <figure data-plot> has its Vega-Lite specification in a script of that id.
(() => {
  const figures = [...document.querySelectorAll("figure[data-plot]")];
  const ROOM_FOR_AXIS = 84;

  // A plot of several views does not follow the width of its place by itself.
  function widened(plot, width) {
    const room = Math.max(120, Math.floor(width - ROOM_FOR_AXIS));
    const views = plot.vconcat || [plot];
    views.forEach((view) => { view.width = room; });
    return plot;
  }

  async function draw(figure) {
    const place = figure.querySelector(".plot");
    const plot = JSON.parse(document.getElementById(figure.dataset.plot).textContent);
    const options = { actions: false, ast: true, renderer: "svg", mode: "vega-lite", tooltip: { theme: "custom" } };
    const drawn = await window.vegaEmbed(place, widened(plot, place.clientWidth), options);
    if (figure.view) figure.view.finalize();
    figure.view = drawn.view;
    // Shapes that only take the pointer are nothing to a screen reader.
    place.querySelectorAll("[role='graphics-symbol']:not([aria-label])").forEach((shape) => {
      shape.removeAttribute("role");
      shape.removeAttribute("aria-roledescription");
    });
  }

  let width = 0;
  async function drawAll() {
    width = document.documentElement.clientWidth;
    for (const figure of figures) await draw(figure);
  }

  let waiting = 0;
  window.addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => { window.plotsDrawn = drawAll(); }, 150);
  });

  window.plotsDrawn = drawAll();
})();
