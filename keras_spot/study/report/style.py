"""How a report looks, and the few lines that sort its tables and tell what can be scrolled."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --pale: #59636e; --line: #d8dee4;
  --paper: #fff; --band: #f6f8fa; --accent: #0072b2; --answer: #eef6fc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --pale: #9aa4af; --line: #2a313a;
  --paper: #0f141a; --band: #171d25; --accent: #4ea6e6; --answer: #13222f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.02em; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 2.75rem 0 1rem; padding-top: 1.25rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
p { max-width: 50rem; }
.lead { color: var(--pale); margin: 0; }
.answer { font-size: 1.1rem; background: var(--answer); border-left: 4px solid var(--accent);
  padding: .7rem 1rem; margin: 1rem 0; border-radius: 0 6px 6px 0; }
.note { color: var(--pale); font-size: .875rem; margin: .6rem 0 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 0; }
dt { color: var(--pale); }
dd { margin: 0; }
ul { padding-left: 1.1rem; max-width: 50rem; }
li { margin: .35rem 0; }
li::marker { color: var(--accent); }
details { border-top: 1px solid var(--line); margin-top: 2rem; }
summary { cursor: pointer; padding: .6rem 0; color: var(--accent); }
summary > * { display: inline; border: 0; padding: 0; margin: 0; font-size: 1.05rem; color: var(--ink); }
.scroll { overflow-x: auto; }
.scroll.more::before { content: "scroll sideways for more \\2192"; position: sticky; left: 0;
  display: block; width: max-content; color: var(--accent); font-size: .8125rem; padding: 0 0 .3rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; font-size: 14px; line-height: 21px;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 18px 5px 0; white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; color: var(--pale); border-bottom: 1px solid var(--ink); }
td { border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
.n { text-align: right; }
td.words { min-width: 8rem; white-space: normal; }
td.sentences { min-width: 14rem; white-space: normal; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:hover td { background: var(--band); }
table.sortable th { cursor: pointer; }
table.sortable th[aria-sort=ascending]::after { content: " \\2191"; }
table.sortable th[aria-sort=descending]::after { content: " \\2193"; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem; margin: 1.25rem 0; }
figure { flex: 1 1 26rem; min-width: 0; margin: 0; padding: 1rem; border: 1px solid var(--line);
  border-radius: 8px; }
figure.whole { flex-basis: 100%; }
figure img { display: block; width: var(--width); max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--pale); font-size: .8125rem; line-height: 1.4; margin-top: .6rem; }
@media (max-width: 40rem) { main { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
  figure { flex-basis: 100%; padding: .5rem; }
  figure img { max-width: none; width: max(100%, calc(var(--width) * .75)); } }
@media print { .scroll { overflow: visible; } .scroll::before { display: none; }
  figure { break-inside: avoid; } }
"""  # noqa: E501

SCRIPT = """
for (const head of document.querySelectorAll("table.sortable th")) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest("table"), body = table.tBodies[0], i = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = row => row.cells[i].textContent;
    const number = row => parseFloat(text(row).replace("\\u2212", "-"));
    const order = (a, b) => number(a) - number(b) || text(a).localeCompare(text(b));
    body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
  };
  head.onclick = sort;
  head.onkeydown = event => { if (event.key === "Enter") sort(); };
}
const hint = () => {
  for (const box of document.querySelectorAll(".scroll"))
    box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1);
};
addEventListener("resize", hint);
addEventListener("load", hint);
document.addEventListener("toggle", hint, true);
hint();
"""
