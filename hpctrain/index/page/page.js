"use strict";
// Search, filter, sort and compare the rows of the table. The table is whole without this script.
const sheet = document.getElementById("runs-table");
if (sheet) {
  const PAGE = 200, MOST_CHOSEN = 10;
  const keys = JSON.parse(document.getElementById("keys").textContent);
  const body = sheet.tBodies[0], heads = [...sheet.tHead.rows[0].cells];
  const runs = [...body.rows].map((row, place) => ({row, place, values: [], text: row.textContent.toLowerCase()}));
  const chosen = new Set();
  let order = null, limit = PAGE;

  const make = (name, facts = {}, ...inside) => {
    const one = Object.assign(document.createElement(name), facts);
    one.append(...inside);
    return one;
  };
  const drawn = (name, attributes, text = "") => {
    const one = document.createElementNS(svgNS, name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    one.textContent = text;
    return one;
  };
  const grouped = (number) => number < 1e4 ? String(number) : number.toLocaleString("en").replaceAll(",", "\u202f");
  const firstText = (cell) => (cell.querySelector("a,span") || cell.firstChild || cell).textContent;
  const valueOf = (cell, kind) => {
    if (kind === "text") return cell.textContent.toLowerCase() || null;
    const value = parseFloat(cell.dataset.v || firstText(cell));
    return Number.isNaN(value) ? null : value;
  };

  // ── The table ──
  const search = make("input", {type: "search", placeholder: "Search names, states, notes, advice", ariaLabel: "Search"});
  const choice = (place, all) => {
    const count = new Map();
    for (const {row} of runs) count.set(firstText(row.cells[place]), (count.get(firstText(row.cells[place])) || 0) + 1);
    const found = [...count].filter(([name]) => name).sort();
    const options = found.map(([name, number]) => make("option", {value: name, textContent: name + " (" + number + ")"}));
    return make("select", {ariaLabel: all}, make("option", {value: "", textContent: all}), ...options);
  };
  const state = choice(1, "All states"), family = choice(2, "All families");
  const count = make("span", {id: "runs-count"}), more = make("button", {id: "more", type: "button"});
  const clear = make("button", {type: "button", textContent: "Unmark all"});
  count.setAttribute("aria-live", "polite");

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = runs.filter(({row, text}) =>
      (!state.value || firstText(row.cells[1]) === state.value) &&
      (!family.value || firstText(row.cells[2]) === family.value) && words.every((word) => text.includes(word)));
    if (order) {
      const kind = heads[order.place].dataset.sort, sign = order.down ? -1 : 1;
      const keyed = found.map((run) => [run.values[order.place] ??= valueOf(run.row.cells[order.place], kind), run]);
      keyed.sort(([a, one], [b, two]) =>
        (a === null) - (b === null) || (a < b ? -sign : a > b ? sign : one.place - two.place));
      found = keyed.map(([, run]) => run);
    }
    for (const run of found.slice(0, limit)) addBox(run);
    body.replaceChildren(...found.slice(0, limit).map((run) => run.row));
    count.textContent = (found.length === runs.length ? "" : grouped(found.length) + " of ") + grouped(runs.length) + (runs.length === 1 ? " run" : " runs");
    more.hidden = found.length <= limit;
    more.textContent = "Show " + Math.min(PAGE, found.length - limit) + " more";
    heads.forEach((head, place) => head.setAttribute("aria-sort",
      order?.place === place ? (order.down ? "descending" : "ascending") : "none"));
  };
  const again = () => { limit = PAGE; show(); };
  const addBox = (run) => {
    if (run.box) return;
    run.box = make("input", {type: "checkbox", ariaLabel: "Compare this run"});
    run.box.addEventListener("change", () => {
      if (run.box.checked) chosen.add(run); else chosen.delete(run);
      compare();
    });
    run.row.cells[0].prepend(run.box);
  };
  heads.forEach((head, place) => {
    const button = make("button", {type: "button", textContent: head.textContent});
    head.dataset.name = head.textContent;
    button.addEventListener("click", () => {
      order = {place, down: order?.place === place ? !order.down : false};
      again();
    });
    head.replaceChildren(button);
  });
  for (const one of [search, state, family]) one.addEventListener("input", again);
  more.addEventListener("click", () => { limit += PAGE; show(); });
  clear.addEventListener("click", () => {
    for (const run of chosen) run.box.checked = false;
    chosen.clear();
    compare();
  });
  document.querySelector(".searched").append(search, state, family, count);
  sheet.after(more);

  // ── The comparison ──
  const curvesOf = (run) => {
    const svg = run.row.querySelector("svg");
    if (!svg) return [];
    const [low, high, log] = svg.dataset.y.split(" ").map((word) => word === "log" || Number(word));
    const {width, height} = svg.viewBox.baseVal;
    return [...svg.querySelectorAll("path")].map((path) => {
      const found = path.getAttribute("d").slice(1).split(" ").map(Number), points = [];
      for (let i = 0; i < found.length; i += 2) {
        points.push([found[i] / width * svg.dataset.x, unplace(found[i + 1], height, 0, [low, high, log ? "log" : "linear"])]);
      }
      return points;
    });
  };
  const ticks = (low, high, log, about) => {
    if (log && high / low > 20) {
      const found = [];
      for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e++) found.push(10 ** e);
      return found;
    }
    const rough = (high - low) / about, base = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * base >= rough) * base, found = [];
    for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k++) found.push(k * step);
    return found;
  };
  const nameOf = (run) => firstText(run.row.cells[0]);
  const numberOf = (run) => run.row.cells[0].querySelector("small").textContent.split(" · ")[0];

  const figure = (picked) => {
    const lines = picked.flatMap((run, place) => curvesOf(run).map((points, part) => ({run, place, part, points})));
    const losses = lines.flatMap(({points}) => points.map(([, loss]) => loss));
    if (!losses.length) return make("p", {className: "empty", textContent: "None of these runs has recorded two losses."});
    let low = Math.min(...losses), high = Math.max(...losses);
    const last = Math.max(...lines.flatMap(({points}) => points.map(([step]) => step)), 1);
    const log = low > 0 && high > 4 * low, air = (high - low) * .05 || Math.abs(high) * .1 || 1;
    [low, high] = log ? [low / 1.1, high * 1.1] : [low - air, high + air];
    const width = Math.max(320, Math.min(1100, document.getElementById("compare").clientWidth)), height = width > 700 ? 300 : 230;
    const frame = [62, 26, width - 88, height], kind = log ? "log" : "linear";
    const x = (step) => frame[0] + frame[2] * step / last;
    const share = (loss) => log ? Math.log(loss / low) / Math.log(high / low) : (loss - low) / (high - low);
    const y = (loss) => frame[1] + height * (1 - share(loss));
    const svg = drawn("svg", {viewBox: "0 0 " + width + " " + (height + 70), role: "img", "aria-label": "Losses of the marked runs"});
    const axes = drawn("g", {class: "axes", "data-frame": frame.join(" "), "data-x": "0 " + last + " linear",
      "data-y": low + " " + high + " " + kind, "data-label": "step"});
    for (const loss of ticks(low, high, log, 5)) {
      axes.append(drawn("path", {class: "grid", d: "M" + frame[0] + " " + y(loss) + "h" + frame[2]}),
        drawn("text", {x: frame[0] - 8, y: y(loss), dy: ".32em", "text-anchor": "end"}, said(loss)));
    }
    for (const step of ticks(0, last, false, width > 700 ? 8 : 4)) {
      axes.append(drawn("path", {class: "axis", d: "M" + x(step) + " " + (frame[1] + height) + "v4"}),
        drawn("text", {x: x(step), y: frame[1] + height + 17, "text-anchor": "middle"}, said(step)));
    }
    axes.append(drawn("path", {class: "axis", d: "M" + frame[0] + " " + (frame[1] + height) + "h" + frame[2]}),
      drawn("text", {class: "label", x: frame[0] + frame[2], y: frame[1] + height + 35, "text-anchor": "end"}, "step"),
      drawn("text", {class: "label", x: frame[0], y: 17}, log ? "loss (logarithmic)" : "loss"));
    for (const {run, place, part, points} of lines) {
      const d = "M" + points.map(([step, loss]) => x(step).toFixed(1) + " " + y(loss).toFixed(1)).join(" ");
      axes.append(drawn("path", part ? {class: "line faint c" + (place + 1), d}
        : {class: "line c" + (place + 1), d, "data-name": nameOf(run) + " " + numberOf(run)}));
    }
    svg.append(axes);
    const legend = make("div", {className: "legend"},
      ...picked.map((run, place) => make("span", {className: "key c" + (place + 1), textContent: nameOf(run) + " " + numberOf(run)})));
    const both = lines.some(({part}) => part);
    return make("figure", {}, make("figcaption", {}, make("b", {textContent: "Loss"}),
      both ? "of training; pale: of the evaluations" : "of training"), legend, svg);
  };

  const row = (name, cells) => make("tr", {}, make("th", {scope: "row", textContent: name}), ...cells.map((text) => make("td", {textContent: text})));
  const differences = (picked) => {
    const head = make("tr", {}, make("th", {textContent: ""}), ...picked.map((run) => {
      const link = run.row.cells[0].querySelector("a");
      const name = make(link ? "a" : "span", link ? {href: link.getAttribute("href")} : {});
      name.textContent = nameOf(run);
      return make("th", {scope: "col"}, name, make("small", {textContent: " " + numberOf(run)}));
    }));
    const facts = [1, 2, 4, 5, 6, 7, 8].map((place) => row(heads[place].dataset.name, picked.map((run) => firstText(run.row.cells[place]))));
    const values = picked.map((run) => {
      const found = new Map(), pairs = keys.runs[run.place];
      for (let i = 0; i < pairs.length; i += 2) found.set(pairs[i], pairs[i + 1]);
      return found;
    });
    const rows = [];
    keys.names.forEach((name, key) => {
      const numbers = values.map((found) => found.get(key) || 0);
      if (new Set(numbers).size > 1) rows.push(row(name, numbers.map((number) => keys.values[key][number] ?? "–")));
    });
    const said = rows.length ? rows.length + (rows.length === 1 ? " key" : " keys") + " of the profiles differ." : "The profiles do not differ.";
    const out = keys.leftOut.length ? " Not compared here, because there are too many values: " + keys.leftOut.join(", ") + "." : "";
    return make("div", {}, make("div", {className: "matrix"}, make("table", {}, make("thead", {}, head), make("tbody", {}, ...facts, ...rows))),
      make("p", {className: "note", textContent: said + out + " hpctrain diff RUN RUN also compares data, code and machines."}));
  };
  const compare = () => {
    const picked = [...chosen].slice(0, MOST_CHOSEN), panel = document.getElementById("chosen");
    panel.replaceChildren();
    const link = document.querySelector('nav a[href="#compare"]');
    if (link) link.textContent = "Comparison" + (chosen.size ? " (" + chosen.size + ")" : "");
    if (picked.length < 2) {
      if (picked.length) panel.append(make("p", {className: "empty", textContent: "Mark one more run."}));
      return;
    }
    const left = chosen.size - picked.length;
    panel.append(clear, figure(picked), differences(picked));
    if (left) panel.prepend(make("p", {className: "note", textContent: "The first " + MOST_CHOSEN + " of " + chosen.size + " marked runs."}));
    const svg = panel.querySelector("svg");
    if (svg) readValues(svg);
  };

  show();
  sheet.classList.add("ready");
}
