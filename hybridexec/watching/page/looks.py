"""How the page looks: colours, style sheets, the frame around the plots, light and dark.

Thread: any.
Guarantees: nothing is loaded from elsewhere. What is text to the page is escaped by whoever puts it
in.
"""

from __future__ import annotations

#: Okabe and Ito's colours, which colour-blind people can tell apart, too. On each line of workers
#: one of them.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C00", "#7F7F7F")
#: Of calls, by how they ended.
OUTCOME_COLOURS = {
    "finished": "#0072B2",
    "failed": "#D55E00",
    "timed_out": "#E69F00",
    "cancelled": "#999999",
    "lost": "#CC79A7",
}
RETRIED_COLOUR = "#009E73"
LOST_COLOUR = "#D55E00"
PLANNED_COLOUR = "#999999"
BAR_COLOUR = "#56B4E9"

#: In all style sheets: what is within a model of bokeh's does not get the page's.
COLOURS = """
:host, :root { --ink: #24292f; --faint: #57606a; --line: #d0d7de; --paper: #ffffff;
    --panel: #f6f8fa; --chosen: #ddf4ff; --bad: #b34700; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
    :host, :root { --ink: #e6edf3; --faint: #9ba5b0; --line: #3d444d; --paper: #0d1117;
        --panel: #161b22; --chosen: #1c3a5e; --bad: #ff9a57; }
}
"""

#: Of what is written.
TEXT = (
    COLOURS
    + """
:host { color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
.bk-clearfix { width: 100%; }
h1 { font-size: 20px; margin: 0 0 2px; }
h2 { font-size: 15px; margin: 0; }
p { color: var(--faint); margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 8px;
    margin-top: 12px; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
    padding: 6px 10px; }
.tile span { color: var(--faint); display: block; font-size: 12px; }
.tile b { font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--bad); }
"""
)

#: Of a traceback.
TRACE = (
    COLOURS
    + """
.bk-clearfix { width: 100%; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
    color: var(--ink); font: 12px/1.5 ui-monospace, monospace; margin: 0; max-height: 360px;
    overflow: auto; padding: 10px 12px; white-space: pre-wrap; }
"""
)

#: Of a table.
TABLE = (
    COLOURS
    + """
.bk-data-table, .slick-viewport, .grid-canvas { background: var(--paper); color: var(--ink); }
.slick-header, .slick-header-columns, .slick-header-column.slick-header-column {
    background: var(--panel); color: var(--ink); font-weight: 600; }
.slick-row.slick-row { background: var(--paper); color: var(--ink); cursor: pointer; }
.slick-row .slick-cell { border-color: var(--line); color: var(--ink); }
.slick-row .slick-cell.selected.selected { background: var(--chosen); }
"""
)

#: The page around it. ``embed`` is bokeh's: it puts a root of the document in its place.
FRAME = (
    """
{% from macros import embed %}
{% block preamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:image/svg+xml,\
%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
%3Cpath fill='%230072B2' d='M0 5h2v3H0zM3 2h2v6H3zM6 0h2v8H6z'/%3E%3C/svg%3E">
<style>"""
    + COLOURS
    + """
body { background: var(--paper); }
main { margin: 0 auto; max-width: 1560px; padding: 20px 24px 48px; }
.plots { display: grid; gap: 22px 28px; margin: 22px 0;
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); }
.plots > div, .wide { min-width: 0; }
.wide { margin-top: 22px; }
</style>
{% endblock %}
{% block inner_body %}
<main>
<div class="wide">{{ embed(roots.summary) }}</div>
<div class="plots">
{% for name in plots %}<div>{{ embed(roots[name]) }}</div>
{% endfor %}</div>
{% for name in below %}<div class="wide">{{ embed(roots[name]) }}</div>
{% endfor %}</main>
{{ plot_script }}
{% endblock %}
"""
)

#: Gives plots the page's colours, and again whenever the reader changes to dark, or back. What a
#: canvas has is not styled by style sheets.
FOLLOW_COLOURS = """
const dark = window.matchMedia("(prefers-color-scheme: dark)")
function follow() {
    const [ink, faint, line, paper] = dark.matches
        ? ["#e6edf3", "#9ba5b0", "#30363d", "#0d1117"]
        : ["#24292f", "#57606a", "#e4e8ec", "#ffffff"]
    for (const title of titles) title.text_color = ink
    for (const axis of axes) {
        axis.axis_label_text_color = faint
        axis.major_label_text_color = faint
        axis.axis_line_color = line
        axis.major_tick_line_color = line
    }
    for (const grid of grids) grid.grid_line_color = line
    for (const legend of legends) legend.label_text_color = ink
    for (const note of notes) note.text_color = faint
}
dark.addEventListener("change", follow)
follow()
"""

#: Seconds on a logarithmic axis.
TICKS_OF_SECONDS = """
const [size, unit] = tick >= 1 ? [1, "s"] : tick >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"]
return `${Number((tick / size).toPrecision(3))} ${unit}`
"""
