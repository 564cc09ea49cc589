// The option of a chart for each kind of tile. Names that come from data are only ever texts of it.

const FONT = 12;

// Colours as the style sheet has them at the moment.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"), muted: of("muted"), line: of("line"), surface: of("surface"), other: of("other"), end: of("end"),
    palette: [1, 2, 3, 4, 5, 6].map((at) => of(`c${at}`)),
    scale: [of("low"), of("middle"), of("high")], onLow: of("on-low"), onHigh: of("on-high"),
  };
}

// Patterns over colours, for eyes and printers that see few; the first of six colours goes without.
const LINES = { color: "rgba(255,255,255,0.35)", symbol: "rect", symbolSize: 1 };
const PATTERNS = [
  null,
  { ...LINES, dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: Math.PI / 4 },
  { ...LINES, dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: 0 },
  { ...LINES, symbol: "circle", symbolSize: 0.8, dashArrayX: [[8, 8], [0, 8, 8, 0]], dashArrayY: [6, 0] },
  { ...LINES, dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: -Math.PI / 4 },
  { ...LINES, dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: Math.PI / 2 },
];

// Numbers and days in their own order, other names as they are.
function inOrder(names) {
  const plain = names.filter((name) => name !== OTHER);
  const rest = names.filter((name) => name === OTHER);
  if (plain.every((name) => /^-?\d+(\.\d+)?$/.test(name))) return [...plain.sort((a, b) => a - b), ...rest];
  if (plain.every((name) => /^\d{4}-\d\d-\d\d/.test(name))) return [...plain.sort(), ...rest];
  return names;
}

function distinct(values) {
  return [...new Set(values)];
}

// A tip of texts: a headline and pairs.
function tip(title, pairs) {
  const box = element("div", "tip", [element("p", "", title)]);
  box.append(element("dl", "", pairs.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)])));
  return box;
}

// The columns of a row behind those that are drawn, as pairs.
function further(tile, row) {
  return tile.columns.slice(tile.drawn).map((column, at) => [label(column.name), cell(row[tile.drawn + at], column)]);
}

function base(tile, theme, isStill) {
  return {
    animation: !isStill, animationDuration: 300,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, fontSize: FONT, color: theme.text },
    color: theme.palette,
    aria: {
      enabled: true, decal: { show: false },
      label: { description: `${tile.finding ? tile.finding + ". " : ""}${tile.title}. The numbers are in the table below.` },
    },
    tooltip: {
      confine: true, backgroundColor: theme.surface, borderColor: theme.line, textStyle: { color: theme.text, fontSize: FONT },
      transitionDuration: 0, padding: [8, 10],
    },
  };
}

// Colours of things in the order of their size; what stands for many or for none is grey.
function painter(names, theme) {
  const plain = names.filter((name) => !name.startsWith("("));
  return (name) => {
    if (name === OTHER) return theme.other;
    if (name.startsWith("(")) return theme.end;
    const at = plain.indexOf(name);
    return at >= 0 && at < theme.palette.length ? theme.palette[at] : theme.other;
  };
}

// A colour with a share of another, both as #rrggbb.
function mixed(one, other, share) {
  const part = (colour, at) => parseInt(colour.slice(at, at + 2), 16);
  return "#" + [1, 3, 5].map((at) => Math.round(part(one, at) * (1 - share) + part(other, at) * share).toString(16).padStart(2, "0")).join("");
}

// How light a colour is, and the one of two that stands out on it, as WCAG measures it.
function lightness(colour) {
  const part = (at) => {
    const share = parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
}
function readable(on, one, other) {
  const contrast = (colour) => {
    const [a, b] = [lightness(on), lightness(colour)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  return contrast(one) >= contrast(other) ? one : other;
}

// How wide a text is in the font of charts, by measuring it.
const pen = document.createElement("canvas").getContext("2d");
function widthOf(text, size = FONT) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

// How high the names of an axis are when they are broken into lines of a width.
function heightOf(names, width) {
  return Math.max(...names.map((name) => Math.ceil((widthOf(name) * 1.15) / width))) * 15;
}

function widest(texts, most) {
  return Math.min(most, Math.ceil(Math.max(0, ...texts.map((text) => widthOf(text)))) + 4);
}

const kinds = {
  funnel(tile, theme, width) {
    const [step, value] = tile.columns;
    const first = tile.rows[0][1] || 0;
    const names = tile.rows.map((row) => named(row[0], step));
    const left = widest(names, Math.min(200, width * 0.34)) + 12;
    const kept = (at) => (at > 0 && tile.rows[at - 1][1] > 0 ? tile.rows[at][1] / tile.rows[at - 1][1] : null);
    const place = { left, right: 112, top: 4, bottom: 4 };
    // Names and numbers are axes beside the shape.
    const axis = {
      type: "category", inverse: true, axisLine: { show: false }, axisTick: { show: false },
    };
    return {
      height: Math.max(120, tile.rows.length * Math.max(58, heightOf(names, left - 12) + 10)),
      option: {
        tooltip: {
          formatter: ({ dataIndex: at }) => tip(names[at], [
            [label(value.name), quantity(tile.rows[at][1], value.name)],
            ["of the first step", first ? share(tile.rows[at][1] / first) : MISSING],
            ...(kept(at) === null ? [] : [["of the step before", share(kept(at))]]),
            ...further(tile, tile.rows[at]),
          ]),
        },
        grid: place,
        xAxis: { type: "value", show: false },
        yAxis: [
          { ...axis, data: names.map((_, at) => at), axisLabel: { color: theme.text, interval: 0, width: left - 12, overflow: "break", lineHeight: 15, formatter: (at) => names[at] } },
          {
            ...axis, position: "right", data: names.map((_, at) => at),
            axisLabel: {
              color: theme.text, interval: 0, margin: 0,
              rich: { value: { fontWeight: 600, width: 60, align: "right" }, of: { color: theme.muted, width: 48, align: "right" } },
              formatter: (at) => `{value|${quantity(tile.rows[at][1], value.name)}}{of|${first ? share(tile.rows[at][1] / first) : ""}}`,
            },
          },
        ],
        series: [{
          type: "funnel", sort: "none", funnelAlign: "left", gap: 3, min: 0, max: first || 1, minSize: "0.5%", maxSize: "100%", ...place,
          label: { show: false }, labelLine: { show: false }, emphasis: { label: { show: false } },
          data: tile.rows.map((row, at) => ({
            name: `${at}`, value: row[1],
            itemStyle: { color: mixed(theme.palette[0], theme.surface, 0.5 * (at / Math.max(1, tile.rows.length - 1))), borderWidth: 0 },
          })),
        }],
      },
    };
  },

  sankey(tile, theme, width) {
    const value = tile.columns[3].name;
    const key = (position, name) => `${position} ${name}`;
    const name = (column) => (row) => named(row[column], tile.columns[column]);
    const [from, to] = [name(1), name(2)];
    let rows = tile.rows;
    // A single node that all begin at tells nothing.
    const begin = Math.min(...rows.map((row) => row[0]));
    const starts = distinct(rows.filter((row) => row[0] === begin).map(from));
    const total = rows.filter((row) => row[0] === begin).reduce((sum, row) => sum + row[3], 0);
    if (starts.length === 1 && rows.some((row) => row[0] > begin)) rows = rows.filter((row) => row[0] > begin);
    const first = Math.min(...rows.map((row) => row[0]));
    const nodes = new Map();
    const add = (position, name, amount, side) => {
      const node = nodes.get(key(position, name)) || { position, name, in: 0, out: 0 };
      node[side] += amount;
      nodes.set(key(position, name), node);
    };
    for (const row of rows) {
      add(row[0], from(row), row[3], "out");
      add(row[0] + 1, to(row), row[3], "in");
    }
    const size = (node) => Math.max(node.in, node.out);
    const rank = (node) => (node.name === OTHER ? 1 : node.name.startsWith("(") ? 2 : 0);
    const ordered = [...nodes.values()].sort((a, b) => a.position - b.position || rank(a) - rank(b) || size(b) - size(a));
    const totals = new Map();
    for (const node of ordered) totals.set(node.name, (totals.get(node.name) || 0) + size(node));
    const paint = painter([...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a)), theme);
    const last = Math.max(...ordered.map((node) => node.position));
    const tall = Math.max(...distinct(ordered.map((node) => node.position)).map((at) => ordered.filter((node) => node.position === at).length));
    const room = (width - 100) / Math.max(1, last - first + 1) - 28;
    const left = 4;
    const right = widest(ordered.filter((node) => node.position === last).map((node) => node.name), room + 20) + 8;
    const columns = last - first + 1;
    return {
      height: Math.max(220, Math.min(560, tall * 44)),
      option: {
        tooltip: {
          formatter: ({ dataType, data }) => dataType === "edge"
            ? tip(`${data.names[0]} → ${data.names[1]}`, [[label(value), quantity(data.value, value)], ["of those there", share(data.of)], ["of all", share(data.value / total)]])
            : tip(data.title, [[label(value), quantity(data.size, value)], ["of all", share(data.size / total)]]),
        },
        // Each column is headed by its position.
        grid: { left, right: right + 10, top: 24, bottom: 8 },
        xAxis: {
          type: "category", position: "top", boundaryGap: false, data: Array.from({ length: columns }, (_, at) => `${label(tile.columns[0].name)} ${first + at}`),
          axisLine: { show: false }, axisTick: { show: false }, axisLabel: { color: theme.muted, align: "left", interval: 0, fontSize: 11, margin: 6 },
        },
        yAxis: { type: "value", show: false },
        series: [{
          type: "sankey", left, right, top: 24, bottom: 8,
          nodeAlign: "left", nodeGap: 10, nodeWidth: 10, draggable: false, layoutIterations: 0, emphasis: { focus: "adjacency" },
          lineStyle: { color: "source", opacity: 0.28, curveness: 0.5 }, labelLayout: { hideOverlap: true },
          label: { color: theme.text, fontSize: 11, width: room, overflow: "truncate", textBorderColor: theme.surface, textBorderWidth: 2, formatter: ({ data }) => data.title },
          data: ordered.map((node) => ({
            name: key(node.position, node.name), title: node.name, size: size(node), depth: node.position - first,
            itemStyle: { color: paint(node.name), borderWidth: 0 },
          })),
          links: rows.map((row) => ({
            source: key(row[0], from(row)), target: key(row[0] + 1, to(row)), value: row[3], names: [from(row), to(row)],
            of: row[3] / size(nodes.get(key(row[0], from(row)))),
          })),
        }],
      },
    };
  },

  heat_map(tile, theme, width) {
    const [down, across, value] = tile.columns;
    let rows = distinct(tile.rows.map((row) => named(row[0], down)));
    let columns = distinct(tile.rows.map((row) => named(row[1], across)));
    // The same things on both axes stand in the same order, so that the diagonal is one.
    if (columns.filter((one) => rows.includes(one)).length * 2 > columns.length) {
      const order = distinct([...rows, ...columns]).sort((a, b) => (a === OTHER) - (b === OTHER));
      [rows, columns] = [rows, columns].map((axis) => order.filter((one) => axis.includes(one)));
    }
    [rows, columns] = [rows, columns].map(inOrder);
    return map(tile, theme, width, {
      rows, columns,
      row: (row) => named(row[0], down), column: (row) => named(row[1], across), value: 2,
      headline: (row) => `${label(down.name)} ${named(row[0], down)}, ${label(across.name)} ${named(row[1], across)}`,
      axes: [label(down.name), label(across.name)], value_name: value.name, isFaint: () => false,
    });
  },

  retention(tile, theme, width) {
    const [cohort, period, rate] = tile.columns;
    const periods = distinct(tile.rows.map((row) => row[1])).sort((a, b) => a - b);
    return map(tile, theme, width, {
      rows: distinct(tile.rows.map((row) => named(row[0], cohort))), columns: periods.map(String),
      row: (row) => named(row[0], cohort), column: (row) => String(row[1]), value: 2,
      headline: (row) => `${label(cohort.name)} ${named(row[0], cohort)}, ${label(period.name)} ${row[1]}`,
      axes: [label(cohort.name), label(period.name)], value_name: rate.name,
      isFaint: (row) => tile.drawn > 3 && row[3] === false,
    });
  },

  bar(tile, theme, width) {
    const [thing, part] = tile.columns;
    const at = tile.drawn - 1;
    const value = tile.columns[at].name;
    const things = distinct(tile.rows.map((row) => named(row[0], thing)));
    const isStacked = tile.drawn === 3;
    const parts = isStacked ? distinct(tile.rows.map((row) => named(row[1], part))) : [label(value)];
    const sums = new Map(parts.map((one) => [one, 0]));
    const found = new Map();
    for (const row of tile.rows) {
      const one = isStacked ? named(row[1], part) : parts[0];
      sums.set(one, sums.get(one) + (row[at] || 0));
      found.set(`${things.indexOf(named(row[0], thing))} ${parts.indexOf(one)}`, row);
    }
    const rank = (name) => (name === OTHER ? 2 : name.startsWith("(") ? 1 : 0);
    const ordered = [...parts].sort((a, b) => rank(a) - rank(b) || sums.get(b) - sums.get(a));
    const paint = isStacked ? painter(ordered, theme) : () => theme.palette[0];
    const totals = things.map((one) => tile.rows.filter((row) => named(row[0], thing) === one).reduce((sum, row) => sum + (row[at] || 0), 0));
    const left = widest(things, Math.min(180, width * 0.34)) + 10;
    const rows = isStacked ? legendRows(ordered, width) : 0;
    const top = rows * 22 + (rows ? 12 : 0);
    return {
      height: top + things.length * Math.max(40, heightOf(things, left - 12) + 8) + 30,
      option: {
        legend: isStacked ? { top: 4, left: 0, padding: 0, itemWidth: 14, itemHeight: 10, itemGap: 12, textStyle: { color: theme.text, fontSize: FONT }, data: ordered, selectedMode: true } : undefined,
        grid: { left, right: 56, top, bottom: 26 },
        xAxis: { type: "value", minInterval: steps(totals), splitNumber: width < 480 ? 3 : 5, axisLabel: { color: theme.muted, hideOverlap: true, formatter: (number) => short(number, value) }, splitLine: { lineStyle: { color: theme.line } } },
        yAxis: {
          type: "category", data: things, inverse: true, axisTick: { show: false }, axisLine: { lineStyle: { color: theme.line } },
          axisLabel: { color: theme.text, width: left - 12, overflow: "break", interval: 0, lineHeight: 14 },
        },
        tooltip: {
          formatter: ({ dataIndex, seriesName }) => {
            const row = found.get(`${dataIndex} ${parts.indexOf(seriesName)}`);
            const of = isStacked && totals[dataIndex] ? [["of " + things[dataIndex], share(row[at] / totals[dataIndex])]] : [];
            return tip(isStacked ? `${things[dataIndex]}: ${seriesName}` : things[dataIndex], [[label(value), quantity(row[at], value)], ...of, ...further(tile, row)]);
          },
        },
        series: ordered.map((one) => ({
          type: "bar", name: one, stack: isStacked ? "all" : undefined, barMaxWidth: 24, itemStyle: { color: paint(one), borderColor: theme.surface, borderWidth: isStacked ? 1 : 0, decal: PATTERNS[theme.palette.indexOf(paint(one))] || undefined },
          data: things.map((_, thingAt) => (found.get(`${thingAt} ${parts.indexOf(one)}`) || [])[at] ?? null),
        })).concat({
          // Bars of no length, which hold the sums.
          type: "bar", name: "", stack: isStacked ? "all" : undefined, barGap: "-100%", silent: true, tooltip: { show: false }, data: isStacked ? things.map(() => 0) : totals,
          itemStyle: { color: "transparent" }, label: { show: true, position: "right", color: theme.text, formatter: ({ dataIndex }) => short(totals[dataIndex], value) },
        }),
      },
    };
  },

  line(tile, theme, width) {
    const isSplit = tile.drawn === 3;
    const columns = isSplit ? [] : tile.columns.map((column, at) => ({ ...column, at })).slice(1).filter((column) => column.type === "number");
    const lines = isSplit
      ? distinct(tile.rows.map((row) => named(row[1], tile.columns[1]))).map((name) => ({ name, value: tile.columns[2].name, rows: tile.rows.filter((row) => named(row[1], tile.columns[1]) === name).map((row) => [Date.parse(row[0]), row[2]]) }))
      : columns.map((column) => ({ name: label(column.name), value: column.name, rows: tile.rows.map((row) => [Date.parse(row[0]), row[column.at]]) }));
    const paint = isSplit ? painter(lines.map((line) => line.name), theme) : (name) => theme.palette[lines.findIndex((line) => line.name === name) % theme.palette.length];
    const withLegend = lines.length > 1;
    const rows = withLegend ? legendRows(lines.map((line) => line.name), width) : 0;
    const value = lines.length ? lines[0].value : "";
    const times = tile.rows.map((row) => Date.parse(row[0]));
    const isLong = Math.max(...times) - Math.min(...times) > 300 * 86400e3;
    return {
      height: 230 + rows * 22,
      option: {
        legend: withLegend ? { top: 7, left: 0, padding: 0, itemGap: 12, icon: "roundRect", itemWidth: 14, itemHeight: 4, textStyle: { color: theme.text, fontSize: FONT } } : undefined,
        grid: { left: widest([short(Math.max(0, ...lines.flatMap((line) => line.rows.map((row) => row[1] || 0))) * 1.2, value)], 80) + 14, right: 16, top: rows * 22 + (rows ? 18 : 10), bottom: 26 },
        xAxis: {
          type: "time", axisLine: { lineStyle: { color: theme.line } }, axisTick: { lineStyle: { color: theme.line } }, splitNumber: Math.max(2, Math.floor(width / 140)),
          axisLabel: { color: theme.muted, hideOverlap: true, formatter: (time) => (isLong ? `${MONTHS[new Date(time).getUTCMonth()]} ${new Date(time).getUTCFullYear()}` : day(time, false)) },
        },
        yAxis: { type: "value", min: 0, minInterval: steps(lines.flatMap((line) => line.rows.map((row) => row[1]))), splitNumber: 4, axisLabel: { color: theme.muted, formatter: (number) => short(number, value) }, splitLine: { lineStyle: { color: theme.line } } },
        useUTC: true,
        tooltip: {
          trigger: "axis", axisPointer: { lineStyle: { color: theme.muted } },
          formatter: (points) => tip(day(points[0].value[0], true), points.map((point) => [point.seriesName, quantity(point.value[1], lines[point.seriesIndex].value)])),
        },
        series: lines.map((line, place) => ({
          type: "line", name: line.name, data: line.rows, showSymbol: line.rows.length < 2, symbolSize: 6, itemStyle: { color: paint(line.name) },
          lineStyle: { width: 2, color: paint(line.name), type: ["solid", "dashed", "dotted"][Math.floor(place / 2) % 3] },
          areaStyle: lines.length <= 2 ? { opacity: 0.1 } : undefined,
        })),
      },
    };
  },
};

// The least step of an axis: whole numbers are counts, and have no halves.
function steps(numbers) {
  return numbers.every((number) => number === null || Number.isInteger(number)) ? 1 : 0;
}

// How many rows a legend of these names takes.
function legendRows(names, width) {
  let [rows, used] = [1, 0];
  for (const name of names) {
    const needs = widthOf(name) + 14 + 5 + 12;
    if (used && used + needs > width) [rows, used] = [rows + 1, 0];
    used += needs;
  }
  return rows;
}

// A cell for each pair, coloured by its number.
function map(tile, theme, width, of) {
  const left = widest(of.rows, Math.min(150, width * 0.3)) + 10;
  const room = (width - left - 8) / Math.max(1, of.columns.length);
  const longest = Math.max(0, ...of.columns.map((name) => widthOf(name)));
  const isTurned = longest > room - 4;
  const bottom = (isTurned ? Math.min(110, longest * 0.72 + 14) : 22) + 22;
  const numbers = tile.rows.map((row) => row[of.value] || 0);
  // Colours go by the square root, as counts differ by orders.
  const [least, most] = [Math.sqrt(Math.max(0, Math.min(...numbers))), Math.sqrt(Math.max(0, ...numbers))];
  const withTexts = room >= 30;
  return {
    height: of.rows.length * (withTexts ? 32 : 24) + bottom + 26,
    option: {
      grid: { left, right: 8, top: 24, bottom },
      xAxis: {
        type: "category", data: of.columns, axisTick: { show: false }, axisLine: { show: false }, name: of.axes[1], nameLocation: "middle", nameGap: bottom - 14,
        nameTextStyle: { color: theme.muted }, axisLabel: { color: theme.text, interval: 0, rotate: isTurned ? 45 : 0, width: 140, overflow: "truncate" },
      },
      yAxis: {
        type: "category", data: of.rows, inverse: true, axisTick: { show: false }, axisLine: { show: false }, name: of.axes[0], nameLocation: "start",
        nameGap: 8, nameTextStyle: { color: theme.muted, align: "right", padding: [0, 8, 0, 0] },
        axisLabel: { color: theme.text, interval: 0, width: left - 12, overflow: "truncate" },
      },
      visualMap: { show: false, min: Math.min(least, most - 1e-9), max: most || 1, dimension: 3, inRange: { color: theme.scale } },
      tooltip: {
        formatter: ({ dataIndex }) => {
          const row = tile.rows[dataIndex];
          return tip(of.headline(row), [[label(of.value_name), quantity(row[of.value], of.value_name)], ...further(tile, row)]);
        },
      },
      series: [{
        type: "heatmap", itemStyle: { borderColor: theme.surface, borderWidth: 2, borderRadius: 4 }, emphasis: { itemStyle: { borderColor: theme.text, borderWidth: 1 } },
        data: tile.rows.map((row) => {
          const root = Math.sqrt(Math.max(0, row[of.value] || 0));
          const at = most > least ? (root - least) / (most - least) : 1;
          const colour = at < 0.5 ? mixed(theme.scale[0], theme.scale[1], at * 2) : mixed(theme.scale[1], theme.scale[2], at * 2 - 1);
          return {
            value: [of.columns.indexOf(of.column(row)), of.rows.indexOf(of.row(row)), row[of.value], root],
            itemStyle: of.isFaint(row) ? { opacity: 0.45 } : undefined, label: { color: readable(colour, theme.onLow, theme.onHigh) },
          };
        }),
        label: { show: withTexts, fontSize: room < 44 ? 10 : 11, formatter: ({ dataIndex }) => short(tile.rows[dataIndex][of.value], of.value_name) },
      }],
    },
  };
}
