"""Look and behaviour of the fleet page, beyond what it shares with the audit's."""

STYLE = """
body { max-width: 110rem; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; align-items: end;
  margin: 0 0 .75rem; }
.controls fieldset { border: 0; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .5rem; }
.controls legend, .search > span { font-size: .85rem; color: var(--muted); padding: 0; }
.controls .search { flex: 1 1 20rem; }
.controls .search > span { display: block; }
.controls input[type=search] { width: 100%; font: inherit; padding: .35rem .6rem;
  color: var(--text); background: var(--page); border: 1px solid var(--line);
  border-radius: .35rem; }
.chip { display: inline-flex; align-items: center; gap: .3rem; cursor: pointer; }
:focus-visible { outline: 2px solid var(--info); outline-offset: 1px; }
.problem { color: var(--critical); min-height: 1.5em; margin: 0; }
.verdict.unreadable { background: var(--critical); }
.fleet { width: 100%; table-layout: fixed; font-size: .85rem; }
.fleet th, .fleet td { padding: .25rem .6rem .25rem 0; overflow: hidden; text-overflow: ellipsis;
  vertical-align: middle; }
.fleet thead th { position: sticky; top: 0; background: var(--paper); z-index: 1; }
.fleet th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; text-align: inherit; }
.fleet th[aria-sort] button::after { content: ' \\25B2'; font-size: .7em; }
.fleet th[aria-sort=descending] button::after { content: ' \\25BC'; }
.fleet .number { text-align: right; }
.fleet td.run { font-weight: 600; }
.fleet .more { font: inherit; line-height: 1; color: var(--muted); background: none; border: 0;
  cursor: pointer; padding: .2rem .35rem; }
.fleet .more[aria-expanded=true] { transform: rotate(90deg); }
.js :is(.later, .noscript) { display: none; }
:root:not(.js) :is(.controls, .k-more) { display: none; }
.fleet svg { display: block; }
.fleet .limit { stroke: var(--muted); stroke-dasharray: 2 2; }
.fleet .curve { stroke: currentColor; fill: none; stroke-width: 1.4; stroke-linejoin: round; }
.fleet .firing .curve { stroke: var(--critical); }
.fleet tr.opened > td { white-space: normal; overflow: visible; padding: .25rem 0 1rem 2rem; }
.opened dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1rem;
  margin: 0; }
.opened dt { color: var(--muted); font-weight: normal; }
.opened dd { margin: 0; overflow-wrap: anywhere; } .opened dd code { white-space: normal; }
.k-more { width: 2rem; } .k-verdict { width: 7rem; } .k-worst { width: 15.5rem; }
.k-course { width: 7rem; } .k-trend { width: 13rem; } .k-firing { width: 7rem; }
.k-lead, .k-step { width: 4.25rem; } .k-commit { width: 9.5rem; } .k-state { width: 5.5rem; }
@media (max-width: 90rem) { .k-state { display: none; } }
@media (max-width: 80rem) { .k-commit { display: none; } }
@media (max-width: 66rem) { .k-trend, .k-step { display: none; } }
@media (max-width: 56rem) { .k-firing, .k-lead { display: none; } }
@media (max-width: 45rem) { .k-course { display: none; }
  body { padding: .5rem; } section { padding: .75rem; }
  .k-more { width: 1.5rem; } .k-verdict { width: 6.25rem; } .k-worst { width: auto; }
  .fleet td.k-worst, .fleet td.k-name { white-space: normal; overflow-wrap: anywhere; }
  .fleet tr.opened > td { padding-left: 0; } .opened dl { grid-template-columns: 100%; } }
@media print { .controls, .k-more { display: none; }
  .fleet thead th { position: static; } }
"""

FIRST_SCRIPT = "document.documentElement.className = 'js';"
"""Before anything is drawn: what only a page with scripts hides is hidden from the start."""

SCRIPT = """
const fleet = JSON.parse(document.getElementById('fleet').textContent);
const body = document.querySelector('.fleet tbody');
const later = document.querySelector('.fleet .later'), end = document.getElementById('end');
const rows = [...body.rows, ...later.rows].map((row, i) => ({row, ...fleet.runs[i]}));
const search = document.getElementById('search'), problem = document.getElementById('problem');
const chips = [...document.querySelectorAll('.chip input')];
const heads = [...document.querySelectorAll('.fleet th[data-key]')];
const headKeys = heads.map((head) => head.dataset.key);
let sort = {key: 'verdict', down: false};

// A key is a column, a setting, or the last part of a setting's name.
function getter(key) {
  if (fleet.fields.includes(key)) return (run) => run.fields[fleet.fields.indexOf(key)];
  const wanted = key.replace(/^config\\./, '');
  const names = fleet.settings.includes(wanted) ? [wanted]
    : fleet.settings.filter((name) => name.endsWith('.' + wanted));
  if (names.length !== 1) throw new Error(names.length
    ? `${key} can mean ${names.join(', ')}` : `no run has ${key}`);
  return (run) => run.settings[fleet.settings.indexOf(names[0])];
}
const isNumber = (value) => value !== null && value !== '' && typeof value !== 'boolean'
  && Number.isFinite(Number(value));
function equal(value, wanted) {
  if (value === null || value === undefined) return false;
  if (isNumber(value) && isNumber(wanted)) return Number(value) === Number(wanted);
  const pattern = wanted.replace(/[.+^${}()|\\\\[\\]]/g, '\\\\$&').replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${pattern}$`, 'is').test(String(value));
}
function condition(text) {
  const match = /^([^=!<>]+)(<=|>=|!=|==?|<|>)(.*)$/s.exec(text);
  if (!match) {
    const word = text.toLowerCase();
    return (run) => run.text.includes(word);
  }
  const [, key, given, value] = match, get = getter(key), wanted = value.split(',');
  const sign = given === '==' ? '=' : given;
  if (wanted.some((item) => !item)) throw new Error(`${text} has no value`);
  if (wanted.some((item) => '=<>'.includes(item[0]))) throw new Error(`${text}: what is the sign?`);
  if (sign === '=' || sign === '!=')
    return (run) => wanted.some((item) => equal(get(run), item)) === (sign === '=');
  if (!wanted.every(isNumber)) throw new Error(`${value} is not a number`);
  const holds = {'<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b,
    '>=': (a, b) => a >= b}[sign];
  return (run) => isNumber(get(run))
    && wanted.some((item) => holds(Number(get(run)), Number(item)));
}
function show() {
  let conditions;
  try {
    conditions = search.value.split(/\\s+/).filter(Boolean).map(condition);
    problem.textContent = '';
  } catch (error) {
    problem.textContent = error.message;
    return;
  }
  closeDetails();
  const verdicts = new Set(chips.filter((chip) => chip.checked).map((chip) => chip.value));
  const isShown = (run) => verdicts.has(run.verdict) && conditions.every((holds) => holds(run));
  const kept = rows.filter(isShown);
  place(order(kept));
  document.getElementById('count').textContent =
    `${kept.length.toLocaleString('en')} of ${rows.length.toLocaleString('en')} runs`;
  for (const head of heads) {
    if (head.dataset.key === sort.key)
      head.setAttribute('aria-sort', sort.down ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  }
  remember();
}
// Rows beyond the first wait until the reader comes near: a table of thousands is laid out slowly.
let pending = rows.slice(body.rows.length);
function place(runs) {
  pending = runs;
  body.replaceChildren();
  later.replaceChildren();
  placeMore();
}
function placeMore(count = fleet.first) {
  body.append(...pending.slice(0, count).map((run) => run.row));
  pending = pending.slice(count);
  watchEnd.unobserve(end);
  if (pending.length) watchEnd.observe(end);
}
const watchEnd = new IntersectionObserver((seen) => {
  if (seen.some((one) => one.isIntersecting)) placeMore();
}, {rootMargin: '1200px'});
addEventListener('beforeprint', () => placeMore(pending.length));
const words = new Intl.Collator('en', {numeric: true});
// Numbers before words.
function compare(a, b) {
  if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
  return isNumber(a) ? Number(a) - Number(b) : words.compare(String(a), String(b));
}
// Rows come with the gravest first. What is not known stays last either way.
function order(runs) {
  if (sort.key === 'verdict') return sort.down ? [...runs].reverse() : runs;
  const get = getter(sort.key), sign = sort.down ? -1 : 1;
  const known = runs.filter((run) => get(run) !== null);
  const unknown = runs.filter((run) => get(run) === null);
  known.sort((a, b) => sign * compare(get(a), get(b)));
  return known.concat(unknown);
}
// The view is in the address, so that it can be shared.
function remember() {
  const view = new URLSearchParams();
  if (search.value) view.set('q', search.value);
  if (sort.key !== 'verdict' || sort.down) view.set('sort', (sort.down ? '-' : '') + sort.key);
  const off = chips.filter((chip) => !chip.checked).map((chip) => chip.value);
  if (off.length) view.set('hide', off.join(','));
  history.replaceState(null, '', view.size ? `#${view}` : location.pathname + location.search);
}
function recall() {
  const view = new URLSearchParams(location.hash.slice(1));
  const key = (view.get('sort') ?? 'verdict').replace(/^-/, '');
  search.value = view.get('q') ?? '';
  sort = {key: headKeys.includes(key) ? key : 'verdict', down: /^-/.test(view.get('sort') ?? '')};
  const off = (view.get('hide') ?? '').split(',');
  for (const chip of chips) chip.checked = !off.includes(chip.value);
}
function closeDetails() {
  document.querySelector('.fleet .opened')?.remove();
  const button = document.querySelector('.fleet .more[aria-expanded=true]');
  button?.setAttribute('aria-expanded', 'false');
}
function openDetails(button) {
  const wasOpen = button.getAttribute('aria-expanded') === 'true';
  closeDetails();
  if (wasOpen) return;
  const row = button.closest('tr'), run = rows.find((item) => item.row === row);
  const list = document.createElement('dl'), opened = document.createElement('tr');
  for (const [term, text] of run.details) {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = term;
    if (term === 'audit') dd.append(code(text));
    else dd.textContent = text;
    list.append(dt, dd);
  }
  opened.className = 'opened';
  const cell = opened.insertCell();
  cell.colSpan = [...row.cells].filter((one) => one.offsetWidth).length;
  cell.append(list);
  row.after(opened);
  button.setAttribute('aria-expanded', 'true');
}
function code(text) {
  const shown = document.createElement('code');
  shown.textContent = text;
  return shown;
}
let waiting = 0;
search.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(show, 80); });
for (const chip of chips) chip.addEventListener('change', show);
for (const head of heads) head.querySelector('button').addEventListener('click', () => {
  const key = head.dataset.key;
  sort = {key, down: sort.key === key ? !sort.down : head.dataset.first === 'down'};
  show();
});
body.addEventListener('click', (event) => {
  const button = event.target.closest('.more');
  if (button) openDetails(button);
});
addEventListener('keydown', (event) => {
  if (event.key === '/' && event.target !== search) { event.preventDefault(); search.focus(); }
  if (event.key === 'Escape') {
    if (event.target === search && search.value) { search.value = ''; show(); } else closeDetails();
  }
});
addEventListener('hashchange', () => { recall(); show(); });
recall();
if (location.hash) show();
else if (pending.length) watchEnd.observe(end);
document.documentElement.dataset.ready = 'yes';
"""
