// Puts the document into the page, and keeps it as wide, as light and as new as it should be.

const NARROW = 820;
const ASK_EVERY = 3000;

function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (typeof content === "string") made.textContent = content;
  else if (content) made.append(...content);
  return made;
}

function table(caption, columns, rows, isTold) {
  const isNumber = (column) => ["number", "numbers"].includes(column.type);
  const kind = (column) => (column.type === "number" ? "number" : ["day", "time"].includes(column.type) ? "nowrap" : "");
  const head = columns.map((column) => Object.assign(element("th", kind(column), label(column.name) + (column.type === "time" ? " (UTC)" : "")), { scope: "col" }));
  const body = rows.map((row) => element("tr", "", columns.map((column, at) => {
    const one = element(at === 0 && !isNumber(column) ? "th" : "td", kind(column), cell(row[at], column));
    if (one.tagName === "TH") one.scope = "row";
    return one;
  })));
  const made = element("table", "", [element("caption", isTold ? "told" : "", caption), element("thead", "", [element("tr", "", head)]), element("tbody", "", body)]);
  const box = element("div", "rows", [made]);
  // What scrolls can be scrolled by keys.
  Object.assign(box, { tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  return box;
}

function folded(name, title, content) {
  const made = element("details", "", [element("summary", "", title), content]);
  made.id = `table-${name}`;
  return made;
}

function figures(tile) {
  const [, value, now, before] = tile.columns;
  return element("dl", "figures", tile.rows.map((row) => {
    const name = row[0] === null ? "(none)" : String(row[0]);
    const parts = [element("dt", "", label(name)), element("dd", "value", quantity(row[1], unit(name) === "number" ? value.name : name))];
    if (tile.drawn > 4 && row[4]) parts.push(element("dd", "", [sparkline(row[4])]));
    if (tile.drawn > 3) parts.push(change(row, name, now, before));
    return element("div", "figure", parts);
  }));
}

function change(row, name, now, before) {
  const [a, b] = [row[2], row[3]];
  const isShare = unit(name) === "share";
  const parts = [];
  if (typeof a === "number" && typeof b === "number" && (isShare || b !== 0)) {
    const difference = isShare ? (a - b) * 100 : (a / b - 1) * 100;
    const text = grouped(Math.abs(difference), Math.abs(difference) < 9.95 ? 1 : 0);
    const sign = difference > 0 ? "▲" : "▼";
    parts.push(element("b", "", text === "0" ? "unchanged" : `${sign} ${text}${isShare ? " points" : "\u00a0%"}`));
  } else {
    parts.push(element("b", "", "\u00a0"));
  }
  for (const [column, value] of [[now, a], [before, b]]) {
    parts.push(element("span", "", [element("span", "", label(column.name)), " ", element("span", "amount", quantity(value, name))]));
  }
  return element("dd", "change", parts);
}

function sparkline(values) {
  const space = "http://www.w3.org/2000/svg";
  const known = values.map((value) => value ?? 0);
  const most = Math.max(...known, 0) || 1;
  const points = known.map((value, at) => `${known.length > 1 ? (at / (known.length - 1)) * 100 : 50},${30 - (value / most) * 28}`).join(" ");
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 32");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [shape, at] of [["polygon", `0,32 ${points} 100,32`], ["polyline", points]]) {
    const made = document.createElementNS(space, shape);
    made.setAttribute("points", at);
    svg.append(made);
  }
  return svg;
}

// The charts of the page with their tiles, to be drawn again.
let drawn = [];

function draw() {
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches || document.documentElement.classList.contains("paper");
  const theme = colours();
  for (const one of drawn) {
    const width = one.box.clientWidth;
    if (!width) continue;
    const { height, option } = kinds[one.tile.kind](one.tile, theme, width);
    one.box.style.height = `${height}px`;
    const common = base(one.tile, theme, isStill);
    const whole = { ...common, ...option, tooltip: { ...common.tooltip, ...option.tooltip }, aria: { ...common.aria, ...option.aria } };
    if (one.chart) one.chart.resize({ width, height, silent: true });
    else one.chart = echarts.init(one.box, null, { renderer: "svg", width, height });
    one.chart.setOption(whole, { notMerge: true });
    one.width = width;
  }
}

function tileOf(tile) {
  const headline = element("h2", "", tile.finding || tile.title);
  headline.id = `tile-${tile.name}`;
  const made = element("article", "tile", [headline]);
  made.dataset.kind = tile.kind;
  made.setAttribute("aria-labelledby", headline.id);
  if (tile.finding) made.append(element("p", "subject", tile.title));
  if (!tile.rows.length) {
    made.append(element("p", "empty", "There are no rows to show."));
  } else if (tile.kind === "figures") {
    made.append(figures(tile));
  } else if (tile.kind === "table") {
    made.append(table(tile.title, tile.columns, tile.rows, true));
  } else {
    const box = element("div", "chart");
    drawn.push({ tile, box });
    made.append(tile.kind === "sankey" ? scrolled(tile, box) : box);
  }
  made.append(element("div", "push"));
  if (tile.notes.length) made.append(element("p", "notes", tile.notes.map(sentence).join(" ")));
  if (tile.rows.length && tile.kind !== "table") made.append(folded(tile.name, "Table", table(tile.title, tile.columns, tile.rows)));
  return made;
}

function scrolled(tile, box) {
  const made = element("div", "wide", [box]);
  made.tabIndex = 0;
  made.setAttribute("role", "region");
  made.setAttribute("aria-label", `Chart: ${tile.title}`);
  return made;
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

// A half that would stand alone in its row takes all of it, and so does the last of several that belong together.
function widths(tiles) {
  const family = (tile) => tile.name.split("-")[0];
  const isLastOfSeveral = (at) => family(tiles[at]) !== tiles[at].name && tiles[at].name !== `${family(tiles[at])}-1` && (!tiles[at + 1] || family(tiles[at + 1]) !== family(tiles[at]));
  const found = tiles.map((tile) => tile.width);
  let alone = null;
  tiles.forEach((tile, at) => {
    if (tile.width === "full" && alone !== null) [found[alone], alone] = ["full", null];
    else if (tile.width === "half" && alone !== null) alone = null;
    else if (tile.width === "half" && isLastOfSeveral(at)) found[at] = "full";
    else if (tile.width === "half") alone = at;
  });
  if (alone !== null) found[alone] = "full";
  return found;
}

function sectionOf(section) {
  const headline = element("h2", "", section.title);
  headline.id = `section-${section.name}`;
  const made = element("section", "", [headline]);
  made.setAttribute("aria-labelledby", headline.id);
  if (section.text) made.append(element("p", "subject", section.text));
  section.tables.forEach((one, at) => {
    const inside = element("div", "", one.text ? [element("p", "subject", one.text)] : []);
    inside.append(table(one.title, one.columns, one.rows));
    made.append(folded(`${section.name}-${at}`, one.title, inside));
  });
  return made;
}

function about({ events, days, as_of: asOf, run_id: run }) {
  const parts = [`${count(events)} events${days ? ` from ${days[0]} to ${days[1]}` : ""}`];
  if (asOf) parts.push(`as of ${asOf.slice(0, 16).replace("T", " ")} UTC`);
  if (run) parts.push(`run ${run}`);
  return parts.join(" · ");
}

function show(page) {
  // What the reader has opened, and where the keys are, stays.
  const open = [...document.querySelectorAll("details[open]")].map((one) => one.id);
  const active = document.activeElement && document.activeElement.closest("details");
  for (const one of drawn) if (one.chart) one.chart.dispose();
  drawn = [];
  document.title = page.title;
  document.getElementById("title").textContent = page.title;
  document.getElementById("about").textContent = about(page.about);
  const wide = widths(page.tiles);
  const tiles = page.tiles.map((tile, at) => {
    const made = tileOf(tile);
    if (wide[at] === "full") made.classList.add("full");
    return made;
  });
  if (!tiles.length) tiles.push(element("p", "empty", "No tile has a table to show yet."));
  document.getElementById("tiles").replaceChildren(...tiles);
  document.getElementById("sections").replaceChildren(...page.sections.map(sectionOf));
  for (const id of open) {
    const one = document.getElementById(id);
    if (one) one.open = true;
  }
  if (active) {
    const again = document.getElementById(active.id);
    if (again) again.querySelector("summary").focus();
  }
  draw();
}

function say(text) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
}

// Asks the server for the document; what it has not changed stays as it is.
async function ask(tag) {
  let next = tag;
  try {
    const answer = await fetch("document.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      show(await answer.json());
      next = answer.headers.get("ETag");
      say(`Live: shown anew at ${new Date().toTimeString().slice(0, 8)}`);
    } else if (answer.status !== 304) {
      say(`The server answers ${answer.status}; asking again.`);
    } else if (document.getElementById("state").textContent.startsWith("The server")) {
      say("Live");
    }
  } catch {
    say("The server does not answer; what is shown may be old. Asking again.");
  }
  setTimeout(ask, ASK_EVERY, next);
}

// Paper is white whatever the screen is.
addEventListener("beforeprint", () => { document.documentElement.classList.add("paper"); draw(); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("paper"); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", draw);
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (drawn.some((one) => one.box.clientWidth !== one.width)) draw(); }, 100);
});

const stored = JSON.parse(document.getElementById("document").textContent);
if (stored) show(stored);
else ask(null);
