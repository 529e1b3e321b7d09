/* Curves with values under the pointer, and one noise level for everything on the page that has one.
   Each <section class="explorer"> holds its data as JSON; nothing is loaded from elsewhere. */
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const figure = (value) => (value === null ? "not defined" : Number(value).toPrecision(4).replace("-", "−"));

function make(parent, name, attributes = {}, text = "") {
  const node = name.startsWith("svg:")
    ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function explorer(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const levels = data.log_snr; // from signal to noise, left to right
  const place = (index) => 46 + (534 * (levels[0] - levels[index])) / (levels[0] - levels.at(-1));
  const panels = [panel(root, data, "entropy", place), panel(root, data, "rate", place)];

  const control = make(root, "p", { class: "level" });
  const label = make(control, "label", {}, "Noise level, arrow keys move it: ");
  const slider = make(label, "input", { type: "range", min: 0, max: levels.length - 1, step: 1 });
  const said = make(control, "output", { "aria-live": "polite" });
  const values = make(root, "table", { class: "values" });
  const head = make(make(values, "thead"), "tr");
  for (const name of ["curve", "H [nats]", "−dH/dλ"]) make(head, "th", {}, name);
  const body = make(values, "tbody");
  const cells = data.curves.map((curve) => {
    const row = make(body, "tr");
    const name = make(row, "td");
    const key = make(name, "svg:svg", { width: 34, height: 10, "aria-hidden": "true" });
    make(key, "svg:line", { x1: 0, x2: 30, y1: 5, y2: 5, ...stroke(curve) });
    name.append(curve.name);
    return ["entropy", "rate"].map((kind) => [kind, make(row, "td")]);
  });
  const images = data.images.map((image) => picture(root, data, image));

  function move(index) {
    slider.value = index;
    const sigma = Math.exp(-levels[index] / 2);
    said.textContent = `σ/α = ${figure(sigma)}, λ = ${figure(levels[index])}`;
    slider.setAttribute("aria-valuetext", said.textContent);
    for (const show of panels) show(index);
    data.curves.forEach((curve, number) => {
      for (const [kind, cell] of cells[number]) {
        const half = curve[kind].half[index];
        cell.textContent = figure(curve[kind].value[index]) + (half ? ` ± ${Number(half).toPrecision(2)}` : "");
      }
    });
    for (const show of images) show(index);
  }
  slider.addEventListener("input", () => move(Number(slider.value)));
  for (const drawing of root.querySelectorAll("svg.curves")) {
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const at = ((event.clientX - box.left) * 600) / box.width;
      let nearest = 0;
      levels.forEach((_, index) => {
        if (Math.abs(place(index) - at) < Math.abs(place(nearest) - at)) nearest = index;
      });
      move(nearest);
    });
  }
  move(data.start);
}

const stroke = (curve) => ({
  fill: "none", stroke: curve.colour, "stroke-width": 2, "stroke-dasharray": curve.dash,
});

function panel(root, data, kind, place) {
  const values = data.curves.flatMap((curve) => curve[kind].value.filter((value) => value !== null));
  const top = Math.max(...values, 1e-12) * 1.06;
  const height = (value) => 150 - (136 * Math.min(Math.max(value, 0), top)) / top;
  const name = { entropy: "H(C|X) [nats]", rate: "−dH/dλ [nats]" }[kind];
  const drawing = make(root, "svg:svg", { class: "curves", viewBox: "0 0 600 196", role: "img", "aria-label": name });
  make(drawing, "svg:text", { x: 46, y: 10 }, name);
  const rough = top / 3, decade = 10 ** Math.floor(Math.log10(rough));
  const step = decade * [1, 2, 5, 10].find((factor) => factor * decade >= rough);
  for (let tick = 0; tick <= top; tick += step) {
    const y = height(tick);
    make(drawing, "svg:line", { x1: 46, x2: 580, y1: y, y2: y, stroke: "#e3e3e6" });
    make(drawing, "svg:text", { x: 42, y: y + 4, "text-anchor": "end" }, String(Number(tick.toPrecision(3))));
  }
  const first = data.log_snr[0], last = data.log_snr.at(-1);
  for (let tick = Math.ceil(last / 2) * 2; tick <= first; tick += 2) {
    const x = 46 + (534 * (first - tick)) / (first - last);
    make(drawing, "svg:line", { x1: x, x2: x, y1: 150, y2: 154, stroke: "#444" });
    make(drawing, "svg:text", { x, y: 167, "text-anchor": "middle" }, String(tick).replace("-", "−"));
  }
  make(drawing, "svg:text", { x: 313, y: 188, "text-anchor": "middle" }, "log-SNR λ        signal → noise");
  const points = (curve, side) =>
    curve[kind].value.map((value, index) =>
      value === null ? null : `${place(index)},${height(value + side * (curve[kind].half[index] || 0))}`);
  for (const curve of data.curves) {
    const band = [...points(curve, 1), ...points(curve, -1).reverse()].filter(Boolean);
    make(drawing, "svg:polygon", { points: band.join(" "), fill: curve.colour, opacity: 0.18 });
    make(drawing, "svg:polyline", { points: points(curve, 0).filter(Boolean).join(" "), ...stroke(curve) });
  }
  const mark = make(drawing, "svg:line", { class: "mark", y1: 14, y2: 150, stroke: "#222" });
  const dots = data.curves.map((curve) => make(drawing, "svg:circle", { r: 4, fill: curve.colour, stroke: "#fff" }));
  return (index) => {
    for (const end of ["x1", "x2"]) mark.setAttribute(end, place(index));
    data.curves.forEach((curve, number) => {
      const value = curve[kind].value[index];
      dots[number].setAttribute("cx", place(index));
      dots[number].setAttribute("cy", height(value === null ? 0 : value));
    });
  };
}

function picture(root, data, image) {
  const box = make(root, "figure", { class: "path" });
  const canvases = ["noisy", "denoised"].map((kind) => {
    const cell = make(box, "div");
    const [height, width] = data.size;
    const canvas = make(cell, "canvas", { width, height, role: "img", "aria-label": `${kind}, ${image.name}` });
    make(cell, "small", {}, { noisy: "x_σ", denoised: "denoised" }[kind]);
    return [canvas, Uint8Array.from(atob(image[kind]), (letter) => letter.charCodeAt(0))];
  });
  const bars = make(box, "div", { class: "bars" });
  make(bars, "small", {}, `${image.name}: p(class | x_σ)`);
  const rows = data.classes.map((name) => {
    const row = make(bars, "div", { class: "bar" });
    make(row, "span", {}, name);
    const bar = make(row, "i");
    return [bar, make(row, "b")];
  });
  return (index) => {
    for (const [canvas, bytes] of canvases) {
      const pixels = canvas.width * canvas.height * data.channels;
      const shown = canvas.getContext("2d").createImageData(canvas.width, canvas.height);
      for (let pixel = 0; pixel < canvas.width * canvas.height; pixel++)
        for (let channel = 0; channel < 4; channel++)
          shown.data[4 * pixel + channel] =
            channel === 3 ? 255 : bytes[index * pixels + (channel % data.channels) * (pixels / data.channels) + pixel];
      canvas.getContext("2d").putImageData(shown, 0, 0);
    }
    rows.forEach(([bar, value], number) => {
      const share = image.posterior[index][number];
      bar.style.width = `${100 * share}%`;
      value.textContent = share.toFixed(2);
    });
  };
}

for (const root of document.querySelectorAll("section.explorer")) explorer(root);
