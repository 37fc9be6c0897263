// The text of a row as pieces with a style: SGR colours are understood, everything else that is not text is made visible.
// Nothing here knows of the DOM; what comes out is set as textContent.

export const PLAIN = Object.freeze({ fg: "", bg: "", bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false });

const SPECIAL =
  // eslint-disable-next-line no-control-regex
  /\x1b\[([0-9;:]*)m|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffc]|[\u{e0000}-\u{e0fff}]/gu;
const CUBE = [0, 95, 135, 175, 215, 255];

// Pieces { text, style, control }, and the style that is in force behind the row.
export function parseRow(text, style = PLAIN) {
  const pieces = [];
  let at = 0;
  const told = (end) => {
    if (end > at) pieces.push({ text: text.slice(at, end), style, control: false });
  };
  for (const found of text.matchAll(SPECIAL)) {
    told(found.index);
    at = found.index + found[0].length;
    if (found[1] !== undefined) style = styled(style, found[1]);
    else pieces.push({ text: visible(found[0]), style, control: true });
  }
  told(text.length);
  return { pieces, style };
}

// What somebody reads, without colours; control characters as they are shown.
export function plainText(text) {
  return text.replace(SPECIAL, (found, codes) => (codes === undefined ? visible(found) : ""));
}

// A character that is not one to look at, as one or some that are.
export function visible(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return `^${String.fromCharCode(code + 64)}`;
  if (code === 0x7f) return "^?";
  return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
}

// The style after the codes of one SGR sequence (`1;31`), or of several, joined.
export function styled(before, codes) {
  const style = { ...before };
  const list = codes.split(";");
  for (let n = 0; n < list.length; n += 1) {
    const parts = list[n].split(":");
    const code = Number(parts[0] || 0);
    if (code === 38 || code === 48) {
      const [colour, used] = parts.length > 1 ? [extended(parts.slice(1).filter((part) => part !== "")), 0] : following(list, n);
      n += used;
      if (colour !== null) style[code === 38 ? "fg" : "bg"] = colour;
    } else apply(style, code, parts[1]);
  }
  return Object.freeze(style);
}

function following(list, n) {
  const used = list[n + 1] === "5" ? 2 : list[n + 1] === "2" ? 4 : 1;
  return [extended(list.slice(n + 1, n + 1 + used)), used];
}

// `5, n` is one of 256 colours, `2, r, g, b` any: a name (`1`) for the first sixteen, which the theme has, else `#rrggbb`.
function extended(parts) {
  const numbers = parts.map(Number);
  if (numbers.some((number) => !(number >= 0 && number <= 255))) return null;
  if (numbers[0] === 5 && numbers.length >= 2) return numbered(numbers[1]);
  if (numbers[0] === 2 && numbers.length >= 4) return hex(...numbers.slice(-3));
  return null;
}

function numbered(n) {
  if (n < 16) return String(n);
  if (n >= 232) return hex(8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10);
  const left = n - 16;
  return hex(CUBE[Math.floor(left / 36)], CUBE[Math.floor(left / 6) % 6], CUBE[left % 6]);
}

function hex(...rgb) {
  return `#${rgb.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

function apply(style, code, detail) {
  if (code === 0) Object.assign(style, PLAIN);
  else if (code === 1) style.bold = true;
  else if (code === 2) style.dim = true;
  else if (code === 3) style.italic = true;
  else if (code === 4) style.underline = detail !== "0";
  else if (code === 7) style.inverse = true;
  else if (code === 9) style.strike = true;
  else if (code === 22) style.bold = style.dim = false;
  else if (code === 23) style.italic = false;
  else if (code === 24) style.underline = false;
  else if (code === 27) style.inverse = false;
  else if (code === 29) style.strike = false;
  else if (code === 39) style.fg = "";
  else if (code === 49) style.bg = "";
  else if (code >= 30 && code <= 37) style.fg = String(code - 30);
  else if (code >= 40 && code <= 47) style.bg = String(code - 40);
  else if (code >= 90 && code <= 97) style.fg = String(code - 82);
  else if (code >= 100 && code <= 107) style.bg = String(code - 92);
}
