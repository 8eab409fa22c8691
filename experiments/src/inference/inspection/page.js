"use strict";
// Whoever tests the page looks here for what went wrong.
window.onerror = (message) => {
  document.documentElement.dataset.error = message;
};

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const text = byId("text");
  const controls = { layer: byId("layer"), head: byId("head"), round: byId("round") };
  const ANY = "any";
  let chosen = null;
  let held = false;

  function element(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** A token where a line is too much. */
  const shown = (position) => data.tokens[position].replaceAll("\n", "\u21b5").replaceAll(" ", "\u00b7");
  const head = () => data.layers[controls.layer.value].heads[controls.head.value];

  function options(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([value, label]) => element("option", { value }, label)));
    if (entries.some(([value]) => String(value) === before)) select.value = before;
  }

  function fillControls() {
    options(controls.layer, data.layers.map((layer, index) => [index, String(layer.number + 1)]));
    const layer = data.layers[controls.layer.value];
    options(controls.head, layer.heads.map((_, index) => [index, String(index + 1)]));
    const rounds = head().buckets.map((_, index) => [index, String(index + 1)]);
    options(controls.round, [[ANY, "any"], ...rounds]);
  }

  const tokens = data.tokens.map((token, position) => {
    const node = element("span", { "data-position": position }, token);
    text.append(node);
    return node;
  });

  /** Positions that share a bucket with the chosen one in a round. */
  function mates(round, position) {
    const buckets = head().buckets[round];
    return data.tokens.map((_, other) => other)
      .filter((other) => other !== position && buckets[other] === buckets[position]);
  }

  function draw() {
    const { coverage, weights, buckets } = head();
    tokens.forEach((node, position) => {
      node.className = "";
      node.style.setProperty("--coverage", coverage[position]);
    });
    const rounds = [];
    const attended = [];
    if (chosen !== null) {
      buckets.forEach((bucket, round) => {
        const others = mates(round, chosen);
        rounds.push([round + 1, bucket[chosen], others.length]);
        if (controls.round.value === ANY || Number(controls.round.value) === round) {
          others.forEach((other) => tokens[other].classList.add("mate"));
        }
      });
      for (const [key, weight] of weights[chosen]) {
        tokens[key].classList.add("attended");
        tokens[key].style.setProperty("--weight", weight);
        attended.push([shown(key), key, weight.toFixed(3)]);
      }
      tokens[chosen].classList.add("chosen");
    }
    byId("who").textContent = chosen === null ? "No token"
      : `${shown(chosen)} at position ${chosen}: finds ${(100 * coverage[chosen]).toFixed(1)} % of full attention`;
    const rows = (table, list) => byId(table).tBodies[0].replaceChildren(
      ...list.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))))));
    rows("rounds", rounds);
    rows("weights", attended);
  }

  function choose(position) {
    chosen = position;
    draw();
  }

  text.addEventListener("pointerover", (event) => {
    const position = event.target.dataset?.position;
    if (position !== undefined && !held) choose(Number(position));
  });
  text.addEventListener("click", (event) => {
    const position = event.target.dataset?.position;
    if (position === undefined) return;
    held = !(held && chosen === Number(position));
    choose(Number(position));
  });
  text.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    held = true;
    const last = tokens.length - 1;
    choose(Math.min(last, Math.max(0, (chosen ?? -step) + step)));
  });
  byId("controls").addEventListener("input", () => {
    fillControls();
    draw();
  });
  if (data.layers.length > 0) {
    fillControls();
    draw();
  }
  document.documentElement.dataset.tokens = tokens.length;
})();
