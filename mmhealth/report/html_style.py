"""Look and behaviour of the HTML report."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --page: #f4f6f8; --text: #1d2733;
  --muted: #5b6875; --line: #dde3e9; --critical: #b3261e; --warning: #8a5a00; --info: #42566b;
  --healthy: #1b6b3a; --insufficient: #6b4a8a; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --paper: #171c24; --page: #0f131a; --text: #e4e9ef;
  --muted: #9aa7b5; --line: #2b3441; --critical: #ff7d72; --warning: #f0b849; --info: #a9bbce;
  --healthy: #6ad191; --insufficient: #cfa9f2; --on: #10151c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
section, figure { background: var(--paper); border: 1px solid var(--line); border-radius: .5rem;
  margin: 0 0 1rem; padding: 1rem; min-width: 0; }
.figures { display: grid; gap: 1rem; margin-bottom: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.figures figure { margin: 0; }
.figures .wide { grid-column: 1 / -1; }
.plot { height: 20rem; } #ess.plot { height: 40rem; } #noise.plot { height: 24rem; }
figcaption { margin-bottom: .5rem; color: var(--muted); }
figcaption b { display: block; color: var(--text); }
p { margin: .5rem 0; }
.sentences dt { font-size: .85rem; color: var(--muted); margin-top: .6rem; }
.sentences dd { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.verdict { display: inline-block; border-radius: .35rem; padding: 0 .5rem; font-size: .85em;
  font-weight: 600; color: var(--on); background: var(--info); }
.verdict.critical { background: var(--critical); } .verdict.warning { background: var(--warning); }
.verdict.healthy { background: var(--healthy); }
.verdict.insufficient { background: var(--insufficient); }
.loss { border-left: .25rem solid var(--critical); padding-left: .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
td.prose { white-space: normal; min-width: 12rem; overflow-wrap: break-word; }
td code { white-space: nowrap; }
dt { font-weight: 600; }
summary { margin-top: .5rem; font-weight: 600; cursor: pointer; }
.print { display: none; width: 100%; height: auto; }
small, footer { color: var(--muted); font-weight: normal; }
ul { margin: .25rem 0; padding-left: 1.25rem; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --paper: #ffffff; --page: #ffffff; --text: #1d2733;
    --muted: #47525e; --line: #c8d0d8; --critical: #b3261e; --warning: #8a5a00; --info: #42566b;
    --healthy: #1b6b3a; --insufficient: #6b4a8a; --on: #ffffff; }
  @page { margin: 14mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 10pt; }
  body { max-width: none; padding: 0; }
  section, figure { border: 0; padding: 0; border-radius: 0; }
  .details { break-before: page; }
  .figures { display: block; }
  .figures figure { margin-bottom: 1rem; }
  figure, tr, .sentences dd { break-inside: avoid; }
  h2, h3, dt, summary, thead, p:has(> b:first-child) { break-after: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { width: 100%; font-size: 8pt; }
  th, td, td code { white-space: normal; }
  th, td { padding-right: .4rem; }
  td.prose { min-width: 0; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .drawn .plot { display: none; } .drawn .print { display: block; }
}
"""

SCRIPT = """
const figures = JSON.parse(document.getElementById('figures').textContent);
const dark = matchMedia('(prefers-color-scheme: dark)');
function draw() {
  for (const [name, themes] of Object.entries(figures.themes)) {
    const figure = themes[dark.matches ? 'dark' : 'light'];
    Plotly.react(name, figure.data, figure.layout, figures.config);
  }
}
dark.addEventListener('change', draw);
draw();

// On paper: an image of each figure, light and as wide as the page; and everything unfolded.
async function drawForPaper() {
  const paper = document.createElement('div');
  for (const [name, themes] of Object.entries(figures.themes)) {
    const block = document.getElementById(name), height = block.clientHeight;
    const width = 760;
    const {data, layout} = structuredClone(themes.light);
    await Plotly.newPlot(paper, data, {...layout, width, height}, {staticPlot: true});
    const image = document.createElement('img');
    image.className = 'print';
    image.alt = block.getAttribute('aria-label');
    image.src = await Plotly.toImage(paper, {format: 'svg', width, height});
    await image.decode();
    block.after(image);
    block.parentElement.classList.add('drawn');
  }
  Plotly.purge(paper);
  document.documentElement.dataset.paper = 'drawn';
}
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('details:not([open])')];
  for (const details of folded) details.open = true;
});
addEventListener('afterprint', () => {
  for (const details of folded) details.open = false;
});
drawForPaper();
"""
