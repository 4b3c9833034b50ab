"""Numbers and names as a report spells them."""

import math

__all__ = ["around", "capital", "number", "percent", "plain", "several", "signed"]

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with so many digits, a dash where there is none.

    >>> number(1.25), number(float("nan"))
    ('1.2', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, spread: float | None = None) -> str:
    """Return a number with its sign and, where it has one, its spread.

    >>> signed(1.25), signed(-3, 0.5), signed(None)
    ('+1.2', '−3.0 ± 0.5', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    text = f"{round(value, 1) + 0.0:+.1f}".replace("-", MINUS)
    return text if spread is None or math.isnan(spread) else f"{text} ± {spread:.1f}"


def around(mean: float | None, spread: float | None) -> str:
    """Return a mean with its spread, where it has one.

    >>> around(70.0, 1.5), around(70.0, float("nan"))
    ('70.0 ± 1.5', '70.0')
    """
    deviation = number(spread)
    return number(mean) + ("" if deviation == DASH else f" ± {deviation}")


def percent(value: float) -> str:
    """Return a fraction as a percentage.

    >>> percent(0.589), percent(-0.1), percent(-0.001)
    ('59%', '−10%', '0%')
    """
    return DASH if math.isnan(value) else f"{round(100 * value) + 0:.0f}%".replace("-", MINUS)


def plain(name: str) -> str:
    """Return the name of a similarity in words.

    >>> plain("per_token_cosine")
    'per token cosine'
    """
    return name.replace("_", " ")


def capital(text: str) -> str:
    """Return a text that begins with a capital letter.

    >>> capital("all target examples")
    'All target examples'
    """
    return text[:1].upper() + text[1:]


def several(count: int, one: str, many: str = "") -> str:
    """Return a number of things.

    >>> several(1, "seed"), several(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
