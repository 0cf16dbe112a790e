// Small helpers to build elements and to write numbers for people. Text always goes in as text, never as HTML.

const ICONS = {
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  upload: 'M8 10.5V3M4.800 6 8 2.800 11.200 6M3 13.2h10',
  home: 'M2.5 7.5 8 3l5.5 4.5M4 6.5V13h8V6.5',
  full: 'M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3',
  eye: 'M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8ZM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  info: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 7.2V11M8 5v.2',
  warning: 'M8 2.5 14.5 13.5h-13ZM8 6.5v3.2M8 11.6v.1',
  download: 'M8 2.5v7.5M4.8 7 8 10.2 11.2 7M3 13.2h10',
  turn: 'M12.8 5.5A5.3 5.3 0 1 0 13.3 9M13 2.5v3.2H9.8',
  link: 'M6.5 9.5 9.8 6.2M7.2 4.8l1.3-1.3a2.7 2.7 0 0 1 3.9 3.9l-1.3 1.3M8.8 11.2l-1.3 1.3a2.7 2.7 0 0 1-3.9-3.9l1.3-1.3',
  hand: 'M3.5 2.5v9.2l2.6-2.4 1.6 4 1.7-.7-1.6-3.9h3.6Z',
  rectangle: 'M2.8 4h10.4v8H2.8Z',
  polygon: 'M3 10.5 5 3.5l7 1.2 1 5.3-5.2 3Z',
  ruler: 'M2.5 11 11 2.5l2.5 2.5L5 13.5ZM5 8.5l1.4 1.4M7.3 6.2l1.4 1.4M9.5 4l1.4 1.4',
  pin: 'M8 14s4.5-4.2 4.5-7.5a4.5 4.5 0 0 0-9 0C3.5 9.800 8 14 8 14ZM8 8a1.500 1.500 0 1 0 0-3 1.500 1.500 0 0 0 0 3Z',
  undo: 'M3 6.5h6.2a3.4 3.4 0 0 1 0 6.8H6M5.800 3.500 2.800 6.500l3 3',
  redo: 'M13 6.5H6.800a3.400 3.400 0 0 0 0 6.800H10M10.200 3.500l3 3-3 3',
  camera: 'M2 5h3l1.200-1.800h3.600L11 5h3v7.500H2ZM8 11a2.300 2.300 0 1 0 0-4.600 2.300 2.300 0 0 0 0 4.600Z',
  tag: 'M2.500 3h5l6 6-5 5-6-6ZM5.300 5.700v.1',
  list: 'M2.5 4h11M2.5 8h11M2.5 12h11',
};

/** Let the browser save a blob under a name. */
export function saveFile(blob, name) {
  const link = h('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = value;
    else if (name in element && name !== 'list') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('lpd-icon');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** A size of a file for people. */
export function bytes(size) {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, size)) / 3));
  return power ? `${trim(size / 1000 ** power)} ${['', 'kB', 'MB', 'GB', 'TB'][power]}` : `${size} B`;
}

export const count = (value) => Math.round(value).toLocaleString('en-GB');

export function length(um) {
  if (um >= 1000) return `${trim(um / 1000)} mm`;
  return um >= 1 ? `${trim(um)} µm` : `${Math.round(um * 1000)} nm`;
}

/** An area under a heading "mm²": what is smaller than a hundredth of one is told in µm², with the unit. */
export const areaCell = (mm2, digits) => (mm2 && Math.round(mm2 * 1e6) < 10000 ? `${mm2 < 1e-5 ? trim(mm2 * 1e6) : count(mm2 * 1e6)} µm²` : mm2.toFixed(digits));

/** An area with its unit. */
export function areaText(mm2) {
  const text = mm2 ? areaCell(mm2, mm2 < 1 ? 3 : 2) : '0';
  return text.endsWith('µm²') ? text : `${text} mm²`;
}

export const trim = (value) => String(Number(value.toPrecision(3)));

export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}

export function moment(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  const time = date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  if (date.toDateString() === new Date().toDateString()) return `today ${time}`;
  return `${date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' })} ${time}`;
}

export const hex = (rgb) => `#${rgb.map((v) => v.toString(16).padStart(2, '0')).join('')}`;
export const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
