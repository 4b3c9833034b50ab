"""The page at `/`, in a headless Chromium."""

import pytest

pytest.importorskip("starlette")

import chromium
from serving_client import echo

if chromium.executable() is None:
    pytest.skip("needs Chromium (apt-get install chromium)", allow_module_level=True)

CARDS = "[...document.querySelectorAll('.card h3')].map(title => title.textContent)"
ANSWERS = "[...document.querySelectorAll('.answer')].every(answer => answer.textContent)"


@pytest.fixture(scope="module")
def server():
    with echo() as running:
        yield running


def contrast(one, other):
    """Return the contrast of two colours, as WCAG has it."""

    def light(colour):
        parts = [int(part) / 255 for part in colour.strip("rgb()").split(",")[:3]]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_tasks_side_by_side_by_keyboard_alone(server):
    with chromium.Browser() as page:
        page.open(server.address)
        page.until("document.querySelector('.card')")
        assert page.run(CARDS) == ["glue/sst2"]
        assert page.run("document.querySelector('#summary').textContent") == "3 tasks · echo"
        page.run("document.querySelector('#filter').focus()")
        page.write("pai")
        assert page.run("document.querySelectorAll('.chip').length") == 1
        page.press("Tab")
        page.press(" ")
        page.until("document.querySelectorAll('.card').length === 2")
        assert page.run(CARDS) == ["glue/sst2", "pair"]
        assert page.run("document.activeElement.name") == "premise"
        page.write("it rains")
        page.press("Tab")
        page.write("it is <b>wet</b>")
        page.press("Enter", ctrl=True)
        page.until(ANSWERS)
        assert page.run("document.querySelectorAll('.answer li').length") == 5
        shares = (
            "[...document.querySelectorAll('.share')].map(share => parseFloat(share.textContent))"
        )
        first, second, *rest = page.run(shares)
        assert first + second == pytest.approx(100, abs=0.2)
        assert rest == sorted(rest, reverse=True)
        command = page.run("document.querySelectorAll('code')[1].textContent")
        assert "/v1/models/pair:predict" in command
        assert "it is <b>wet</b>" in command
        assert page.run("location.hash") == "#glue%2Fsst2&pair"
        page.run("document.querySelector('.close').click()")
        assert page.run(CARDS) == ["pair"]
        assert page.complaints == []


def test_an_answer_an_error_and_another_page_s_words(server):
    with chromium.Browser() as page:
        page.open(f"{server.address}/#free&100%")
        page.until("document.querySelector('.card')")
        shell = "/v1/models/it%27s%20%28a%29/b%2a:predict"  # nothing that a shell would read
        assert page.run("path(`it's (a)/b*`)") == shell
        show = """(p => (showTemplate(p, {input: '{{"q": {{{x}}}}}, {y}'}), p.innerHTML))"""
        template = page.run(show + "(document.createElement('p'))")
        assert template == '{"q": {<mark>x</mark>}}, <mark>y</mark>'
        page.run("document.querySelector('textarea').focus()")
        page.write("<img src=x onerror=alert(1)>")
        page.press("Enter", ctrl=True)
        page.until(ANSWERS)
        assert page.run("document.querySelector('.said').textContent") == (
            "free|<img src=x onerror=alert(1)>"
        )
        assert page.run("document.querySelectorAll('img').length") == 0
        page.write(" boom")
        page.press("Enter", ctrl=True)
        page.until("document.querySelector('.error')")
        assert "engine failed" in page.run("document.querySelector('.error').textContent")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_and_can_be_read(server, width, dark, tmp_path):
    with chromium.Browser(width, 900, dark) as page:
        page.open(f"{server.address}/#glue%2Fsst2&pair&free")
        page.until("document.querySelectorAll('.card').length === 3")
        page.run("for (const form of document.forms) form.requestSubmit()")
        page.until(ANSWERS)
        assert page.run("document.documentElement.scrollWidth") <= width
        columns = "new Set([...document.querySelectorAll('.card')].map(c => c.offsetLeft)).size"
        assert page.run(columns) == (1 if width == 390 else 3)
        ground = page.run("getComputedStyle(document.body).backgroundColor")
        for place in ("header p", "h3", ".quiet"):
            ink = page.run(f"getComputedStyle(document.querySelector('{place}')).color")
            assert contrast(ink, ground) >= 4.5, (place, ink, ground)
        for style in (".ask", ".chip input:checked + span"):
            both = f"getComputedStyle(document.querySelector('{style}'))"
            ink, ground_of = page.run(f"[{both}.color, {both}.backgroundColor]")
            assert contrast(ink, ground_of) >= 4.5, style
        unnamed = "[...document.querySelectorAll('button, input, textarea')].filter(e => "
        unnamed += "!(e.labels?.length || e.ariaLabel || e.textContent)).length"
        assert page.run(unnamed) == 0
        page.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
