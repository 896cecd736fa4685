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
.plot { height: 20rem; } #ess.plot { height: 40rem; }
figcaption { margin-bottom: .5rem; color: var(--muted); }
figcaption b { display: block; color: var(--text); }
.why { font-size: 1.1rem; margin: .25rem 0; }
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
td:last-child { white-space: normal; }
dt { font-weight: 600; margin-top: .5rem; } dd { margin-left: 1rem; }
summary { margin-top: 1rem; font-weight: 600; cursor: pointer; }
small, footer { color: var(--muted); font-weight: normal; }
ul { margin: .25rem 0; padding-left: 1.25rem; overflow-wrap: anywhere; }
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
"""
