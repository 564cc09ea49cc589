// Names and values in words. A column's name tells what its numbers are: `…rate` and `…share` are of one, `…_seconds` a length
// of time, `…_bytes` a size.

const MISSING = "–";
const OTHER = "(other)";

function unit(name) {
  const words = name.split("_");
  if (words.includes("rate") || words.includes("share")) return "share";
  const last = words[words.length - 1];
  return last === "seconds" || last === "bytes" ? last : "number";
}

// The name of a column or thing for people; a unit that its values show is left out.
function label(name) {
  const words = name.split("_");
  if (words.length > 1 && ["seconds", "bytes"].includes(words[words.length - 1])) words.pop();
  return words.join(" ").trim() || name;
}

function grouped(value, most, least = 0) {
  return new Intl.NumberFormat("en", { minimumFractionDigits: least, maximumFractionDigits: most }).format(value);
}

function count(value) {
  return grouped(value, Math.abs(value) >= 1000 || Number.isInteger(value) ? 0 : 2);
}

function share(value) {
  const percent = value * 100;
  const digits = percent !== 0 && Math.abs(percent) < 9.95 ? 1 : 0;
  return grouped(percent, digits, digits) + "\u00a0%";
}

function inSteps(value, steps) {
  let [size, name] = steps[0];
  for (const step of steps) if (Math.abs(value) >= step[0]) [size, name] = step;
  const scaled = value / size;
  return grouped(scaled, Math.abs(scaled) < 10 && size !== 1 ? 1 : 0) + "\u00a0" + name;
}

const TIMES = [[1, "s"], [60, "min"], [3600, "h"], [86400, "days"]];
const SIZES = [[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"]];

function quantity(value, name) {
  if (typeof value !== "number") return MISSING;
  switch (unit(name)) {
    case "share": return share(value);
    case "seconds": return Math.abs(value) < 10 ? grouped(value, 2) + "\u00a0s" : inSteps(value, TIMES);
    case "bytes": return inSteps(value, SIZES);
    default: return count(value);
  }
}

// As short as fits a cell or an axis.
function short(value, name) {
  if (unit(name) !== "number" || typeof value !== "number" || Math.abs(value) < 1000) return quantity(value, name);
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: Math.abs(value) < 1e4 ? 1 : 0 }).format(value);
}

function cell(value, column) {
  if (value === null || value === undefined) return MISSING;
  switch (column.type) {
    case "number": return quantity(value, column.name);
    case "numbers": return value.map((one) => quantity(one, column.name)).join(", ");
    case "time": return value.slice(0, 16).replace("T", " ");
    case "flag": return value ? "yes" : "no";
    default: return String(value);
  }
}

// A value as the name of a thing.
function named(value, column) {
  return value === null ? "(none)" : cell(value, column);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function day(time, withYear) {
  const date = new Date(time);
  const text = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  return withYear ? `${text} ${date.getUTCFullYear()}` : text;
}
