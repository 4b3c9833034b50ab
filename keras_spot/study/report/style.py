"""How a report looks, and the few lines that sort its table."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --pale: #656d76; --line: #d8dee4;
  --paper: #fff; --band: #f6f8fa; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --pale: #9198a1; --line: #343b44;
  --paper: #0f141a; --band: #171d25; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 1.25rem; letter-spacing: -.02em; }
h2 { font-size: 1.4rem; margin: 3rem 0 1rem; padding-top: 1.25rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 0; }
dt { color: var(--pale); }
dd { margin: 0; }
ul.said { padding-left: 1.1rem; }
ul.said li { margin: .35rem 0; }
ul.said li::marker { color: var(--accent); }
.note { color: var(--pale); font-size: .875rem; margin: .5rem 0 0; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  min-width: 30rem; }
th { text-align: left; font-weight: 600; color: var(--pale); border-bottom: 1px solid var(--ink);
  padding: .35rem 1rem .35rem 0; white-space: nowrap; }
td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n { font-feature-settings: "tnum"; }
tbody tr:hover { background: var(--band); }
table.sortable th { cursor: pointer; }
table.sortable th[aria-sort=ascending]::after { content: " \\2191"; }
table.sortable th[aria-sort=descending]::after { content: " \\2193"; }
.figures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; padding: 1rem; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; }
figure.wide { grid-column: 1 / -1; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #57606a; font-size: .8125rem; line-height: 1.4; margin-top: .6rem; }
@media (max-width: 40rem) { main { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } figure { padding: .5rem; } }
@media print { .wide { overflow: visible; } figure { break-inside: avoid; } }
"""  # noqa: E501

SCRIPT = """
for (const head of document.querySelectorAll("table.sortable th")) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest("table"), body = table.tBodies[0], i = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[i].textContent;
    const order = (a, b) => key(a) - key(b) || key(a).localeCompare(key(b));
    body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
  };
  head.onclick = sort;
  head.onkeydown = event => { if (event.key === "Enter") sort(); };
}
"""
