"""Commands and pages run with one layer of the embedded backbone."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _quick(quick_tiny):
    pass
