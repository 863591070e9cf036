"""Every verdict has a page, or is said not to be given yet."""

from pathlib import Path

from podcam.model.verdict import VerdictId

PAGES = Path(__file__).parents[3] / "docs" / "verdicts"


def test_every_verdict_has_a_page_or_is_named_as_missing() -> None:
    given, missing = (PAGES / "README.md").read_text().split("## Named, and not given yet")
    for verdict in VerdictId:
        page = PAGES / f"{verdict}.md"
        assert page.exists() == (f"[{verdict}]({verdict}.md)" in given)
        assert page.exists() != (f"`{verdict}`" in missing)


def test_pages_link_to_pages() -> None:
    for page in PAGES.glob("*.md"):
        for link in page.read_text().split("](")[1:]:
            assert (PAGES / link.split(")")[0]).exists(), f"{page.name} links to {link}"
