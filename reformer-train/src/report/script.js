"use strict";
// Tests read errors from here.
window.onerror = (message) => {
  document.documentElement.dataset.error = message;
};

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 240;
  const MARGIN = { top: 10, right: 24, bottom: 24, left: 50 };
  const N_COLORS = 4;
  /** Points from which on single ones are not marked any more. */
  const DENSE = 12;

  const byId = (id) => document.getElementById(id);

  /** An element of the page: attributes, then children, where a string is text. */
  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function shape(name, attributes, parent) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  }

  /** Four digits that matter; whole numbers from a thousand on. */
  function format(value) {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e6 || size < 1e-3) return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  }

  // ---- Scales -------------------------------------------------------------------------------

  /** Maps a range of values to pixels; `ticks` are the values to write next to the axis. */
  function scale([low, high], [from, to], log) {
    const forward = log ? Math.log10 : (value) => value;
    const back = log ? (value) => 10 ** value : (value) => value;
    const [start, end] = [forward(low), forward(high)];
    const width = end - start || 1;
    const map = (value) => from + ((forward(value) - start) / width) * (to - from);
    map.invert = (pixel) => back(start + ((pixel - from) / (to - from)) * width);
    map.ticks = (wanted) => (log ? logTicks(low, high, wanted) : linearTicks(low, high, wanted));
    return map;
  }

  function linearTicks(low, high, wanted) {
    const rough = (high - low) / wanted || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      ticks.push(Number((i * step).toPrecision(12)));
    }
    return ticks;
  }

  /** Powers of ten, with twos and fives between them if those alone are too few. */
  function logTicks(low, high, wanted) {
    for (const factors of [[1], [1, 2, 5]]) {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
        ticks.push(...factors.map((factor) => factor * 10 ** power));
      }
      const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
      if (inside.length >= 3) {
        const every = Math.ceil(inside.length / (2 * wanted));
        return inside.filter((_, index) => index % every === 0);
      }
    }
    return linearTicks(low, high, wanted);
  }

  /** Smallest and largest, with a little room, none below zero if nothing is. */
  function range(values, log) {
    let low = Math.min(...values);
    let high = Math.max(...values);
    if (log) {
      const room = (high / low) ** 0.04 || 1;
      return low === high ? [low / 2, high * 2] : [low / room, high * room];
    }
    const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  }

  // ---- Series -------------------------------------------------------------------------------

  const known = (value) => value !== null && Number.isFinite(value);

  /**
   * Exponential moving average that does not lean towards zero at its beginning. The past loses
   * weight once every `unit` steps, so that series with few points are smoothed no further in
   * steps than those with many.
   */
  function smooth(points, weight, unit) {
    let [sum, total, before] = [0, 0, 0];
    return points.map(([step, value]) => {
      if (!known(value)) return [step, value];
      const kept = weight ** ((step - before) / unit);
      sum = kept * sum + (1 - kept) * value;
      total = kept * total + (1 - kept);
      before = step;
      return [step, total > 0 ? sum / total : value];
    });
  }

  /** The point nearest to a step, where points are ordered by step. */
  function nearest(points, step) {
    let best = null;
    for (const point of points) {
      if (best && Math.abs(point[0] - step) > Math.abs(best[0] - step)) break;
      best = point;
    }
    return best;
  }

  /** Lines through the points; what is not a number is a gap. */
  function line(points, x, y) {
    let pen = "M";
    let path = "";
    for (const [step, value] of points) {
      if (!known(value)) {
        pen = "M";
        continue;
      }
      path += `${pen}${x(step).toFixed(1)},${y(value).toFixed(1)}`;
      pen = "L";
    }
    return path;
  }

  // ---- Charts -------------------------------------------------------------------------------

  /** One picture of all series of a name. */
  class Chart {
    constructor(name, series) {
      this.series = series;
      this.svg = document.createElementNS(SVG, "svg");
      this.svg.setAttribute("role", "img");
      this.svg.setAttribute("aria-label", name);
      this.tip = element("div", { class: "tip", hidden: "" });
      const unit = series[0].unit ? [element("small", {}, series[0].unit)] : [];
      const caption = element("figcaption", {}, element("strong", {}, name, ...unit));
      this.last = series.map(({ split }, index) => {
        const value = element("b");
        const style = `--curve: var(--curve-${index % N_COLORS})`;
        caption.append(element("span", { class: "legend", style }, element("i"), split, value));
        return value;
      });
      this.figure = element("figure", {}, caption, this.svg, this.tip);
      this.svg.addEventListener("pointermove", (event) => {
        const left = this.svg.getBoundingClientRect().left;
        hover(this.x.invert(event.clientX - left), this);
      });
      this.svg.addEventListener("pointerleave", () => hover(null, null));
    }

    draw({ weight, logValue, logStep }) {
      const width = Math.max(200, this.svg.clientWidth || 560);
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      const all = this.series.flatMap(({ points }) => points.filter(([, value]) => known(value)));
      // A logarithm that does not exist is not drawn: the axis stays as it is.
      const logX = logStep && all.some(([step]) => step > 0);
      const logY = logValue && all.every(([, value]) => value > 0);
      const shown = (points) => (logX ? points.filter(([step]) => step > 0) : points);
      this.raw = this.series.map(({ points }) => shown(points));

      const drawn = this.raw.flat().filter(([, value]) => known(value));
      this.plot = { left: MARGIN.left, right: width - MARGIN.right };
      const steps = drawn.map(([step]) => step);
      const ends = [Math.min(...steps), Math.max(...steps)];
      const most = Math.max(...this.raw.map((points) => points.length));
      const unit = (ends[1] - ends[0]) / (most - 1) || 1;
      const smoothed = (points) => (weight > 0 ? smooth(points, weight, unit) : points);
      this.curves = this.raw.map(smoothed);
      this.x = scale(ends, [this.plot.left, this.plot.right], logX);
      const values = drawn.map(([, value]) => value);
      this.y = scale(range(values, logY), [HEIGHT - MARGIN.bottom, MARGIN.top], logY);
      this.axes(width);
      this.raw.forEach((points, index) => {
        const curve = this.curves[index];
        if (weight > 0) this.path(points, index, "curve raw");
        this.path(curve, index, "curve");
        const last = curve.findLast(([, value]) => known(value));
        this.last[index].textContent = last ? format(last[1]) : "";
      });
      this.cursor = shape("g", {}, this.svg);
    }

    axes(width) {
      const { left, right } = this.plot;
      for (const value of this.y.ticks(5)) {
        const y = this.y(value);
        shape("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }, this.svg);
        const at = { x: left - 8, y: y + 4, "text-anchor": "end" };
        shape("text", at, this.svg).textContent = format(value);
      }
      for (const step of this.x.ticks(width / 110)) {
        const at = { x: this.x(step), y: HEIGHT - 6, "text-anchor": "middle" };
        shape("text", at, this.svg).textContent = format(step);
      }
    }

    path(points, index, kind) {
      const style = `--curve: var(--curve-${index % N_COLORS})`;
      const n_points = points.filter(([, value]) => known(value)).length;
      const d = line(points, this.x, this.y);
      shape("path", { class: kind, style, d, "data-points": n_points }, this.svg);
      if (n_points > DENSE || kind !== "curve") return;
      for (const [step, value] of points) {
        if (known(value)) this.dot(this.svg, index, step, value, 2.5);
      }
    }

    dot(parent, index, step, value, r) {
      const style = `--curve: var(--curve-${index % N_COLORS})`;
      shape("circle", { class: "dot", style, cx: this.x(step), cy: this.y(value), r }, parent);
    }

    /** Marks the points next to a step, and writes their values if the pointer is here. */
    mark(step, here) {
      this.cursor.replaceChildren();
      this.tip.hidden = true;
      if (step === null) return;
      const found = this.curves.map((points) => nearest(points.filter(([, value]) => known(value)), step));
      const steps = found.filter(Boolean).map(([at]) => at);
      if (steps.length === 0) return;
      const at = steps.reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
      const x = this.x(at);
      const ends = { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom };
      shape("line", { class: "cross", ...ends }, this.cursor);
      const rows = [element("div", {}, `step ${at.toLocaleString("en")}`)];
      found.forEach((point, index) => {
        if (!point) return;
        this.dot(this.cursor, index, ...point, 4);
        const style = `--curve: var(--curve-${index % N_COLORS})`;
        const where = point[0] === at ? "" : ` (step ${point[0].toLocaleString("en")})`;
        const row = element("div", { class: "legend", style }, element("i"), this.series[index].split);
        row.append(element("b", {}, format(point[1])), where);
        rows.push(row);
      });
      if (!here) return;
      this.tip.replaceChildren(...rows);
      this.tip.hidden = false;
      const room = this.figure.clientWidth - this.tip.offsetWidth - 8;
      const left = x + 30 > room ? x - this.tip.offsetWidth : x + 30;
      this.tip.style.left = `${Math.max(8, left)}px`;
      const [svg, figure] = [this.svg, this.figure].map((node) => node.getBoundingClientRect());
      this.tip.style.top = `${svg.top - figure.top + 12}px`;
    }
  }

  const names = [...new Set(data.series.map(({ name }) => name))];
  const charts = names
    .map((name) => [name, data.series.filter((series) => series.name === name)])
    .filter(([, series]) => series.some(({ points }) => points.some(([, value]) => known(value))))
    .map(([name, series]) => new Chart(name, series));

  function hover(step, owner) {
    for (const chart of charts) chart.mark(step, chart === owner);
  }

  // ---- Controls -----------------------------------------------------------------------------

  /** What a reload must not lose. Pages from files may be denied a storage. */
  const memory = {
    read() {
      try {
        return JSON.parse(sessionStorage.getItem("report")) || {};
      } catch {
        return {};
      }
    },
    write(state) {
      try {
        sessionStorage.setItem("report", JSON.stringify(state));
      } catch {
        // Then a reload begins with the defaults.
      }
    },
  };

  const settings = () => ({
    weight: Number(byId("smoothing").value),
    logValue: byId("log-value").checked,
    logStep: byId("log-step").checked,
  });

  function draw() {
    const now = settings();
    byId("smoothing-value").textContent = now.weight;
    for (const chart of charts) chart.draw(now);
    document.documentElement.dataset.charts = charts.length;
  }

  // ---- Configuration ------------------------------------------------------------------------

  /** Colours JSON, as text nodes: nothing in it becomes markup, and no digit changes. */
  function color(pre) {
    const text = pre.textContent;
    const token = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/g;
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(token)) {
      const kind = match[2] ? "key" : match[1] ? "string" : "number";
      parts.push(text.slice(end, match.index), element("span", { class: kind }, match[0]));
      end = match.index + match[0].length;
    }
    pre.replaceChildren(...parts, text.slice(end));
  }

  // ---- The page -----------------------------------------------------------------------------

  color(byId("config"));
  byId("updated").textContent = ` · written ${new Date(data.written * 1000).toLocaleString()}`;
  if (charts.length === 0) {
    document.documentElement.dataset.charts = 0;
    return;
  }
  byId("curves").hidden = false;
  byId("charts").append(...charts.map(({ figure }) => figure));
  const before = memory.read();
  byId("smoothing").value = before.weight ?? 0;
  byId("log-value").checked = before.logValue ?? false;
  byId("log-step").checked = before.logStep ?? false;
  byId("configuration").open = before.open ?? true;
  draw();
  byId("controls").addEventListener("input", draw);
  new ResizeObserver(draw).observe(byId("charts"));
  window.addEventListener("pagehide", () => {
    memory.write({ ...settings(), open: byId("configuration").open, scroll: window.scrollY });
  });
  if (before.scroll) window.scrollTo(0, before.scroll);
})();
