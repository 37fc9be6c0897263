// Bytes cut into rows, as the server's index does it (iac/domain/log_index.py): a row is a line, or a piece of a long one.

export const ROW = 2048;
export const NEWLINE = 10;
const ESCAPE = 27;
const LONGEST_ESCAPE = 32;
// eslint-disable-next-line no-control-regex
const WHOLE_ESCAPE = /^\x1b(?:\[[0-?]*[ -/]*[@-~]|[^[])/;

// Where the row that begins at `at` ends (behind its newline, if it has one); -1 if that is not known yet.
export function endOfRow(bytes, at) {
  const newline = bytes.subarray(at, at + ROW + 1).indexOf(NEWLINE);
  if (newline >= 0) return at + newline + 1;
  return bytes.length - at > ROW ? cutOf(bytes, at) : -1;
}

// Where a row without a newline within ROW bytes is cut: never inside a character or an escape sequence.
export function cutOf(bytes, at) {
  let cut = at + ROW;
  const escape = bytes.lastIndexOf(ESCAPE, cut - 1);
  if (escape > at && escape >= cut - LONGEST_ESCAPE && !WHOLE_ESCAPE.test(latin1(bytes.subarray(escape, cut)))) return escape;
  while (cut > at + ROW - 4 && (bytes[cut] & 0xc0) === 0x80) cut -= 1;
  return cut;
}

function latin1(bytes) {
  return String.fromCharCode(...bytes);
}

// The rows of a page: { offset, text, line, continued, broken }. `line` counts from 0, as in `start`; `broken` rows go on in the next.
export function rowsOf(bytes, start) {
  const rows = [];
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let line = start.line;
  let continued = start.continued;
  for (let at = 0; at < bytes.length; ) {
    const known = endOfRow(bytes, at);
    const end = known < 0 ? bytes.length : known;
    const whole = bytes[end - 1] === NEWLINE;
    let stop = whole ? end - 1 : end;
    if (whole && stop > at && bytes[stop - 1] === 13) stop -= 1;
    rows.push({ offset: start.offset + at, text: decoder.decode(bytes.subarray(at, stop)), line, continued, broken: !whole && known >= 0 });
    continued = !whole;
    if (whole) line += 1;
    at = end;
  }
  return rows;
}

export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
