"""What the README links is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert links and not [link for link in links if not (ROOT / link).exists()]
