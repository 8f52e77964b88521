"""Links in headers, by the rules of RFC 8288."""

import time

import httpx
import pytest

from resilience_httpx._links import linked_url, parse_links


def targets(value: str, relation: str = "next") -> list[str]:
    return [link.target for link in parse_links(value) if relation in link.relations]


def response(*values: str, url: str = "https://h/a/b?page=1") -> httpx.Response:
    return httpx.Response(
        200, headers=[("Link", value) for value in values], request=httpx.Request("GET", url)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("</2>; rel=next", ["/2"]),
        ('</2>; rel="next"', ["/2"]),
        ('  </2>  ;  rel  =  "next"  ', ["/2"]),
        (' < /2 > ;\trel="next"', ["/2"]),
        ('</2>;rel="next",</9>;rel="last"', ["/2"]),
        ('</9>; rel=last, , ,</2>; rel="next"', ["/2"]),
        ("</2>; rel='next'", []),  # apostrophes are no quotes
        ("</2>; rel=", []),
        ("</2>; rel", []),
        ("</2>", []),
        ("<>; rel=next", [""]),
        ("", []),
        ("nonsense", []),
        ("</2; rel=next", []),
        ('nonsense, </2>; rel="next"', []),  # appendix B.2: what comes after cannot be told any more
        ("</2>; ; rel=next", ["/2"]),
        ('</2> nonsense; rel="next", </3>; rel=next', ["/3"]),
        ('</2>; rel="ne\\xt"', ["/2"]),
        ('</2>; rel="next', ["/2"]),
        ('</2>; rel="next\\', ["/2"]),
        ("</2>; rel*=UTF-8''next", []),
    ],
)
def test_h6_5_link_header(value: str, expected: list[str]) -> None:
    assert targets(value) == expected


def test_h6_5_rel_is_a_list_separated_by_spaces() -> None:
    value = '</2>; rel="last  next\tlast"'
    assert targets(value, "next") == targets(value, "last") == ["/2"]
    assert targets(value, "last next") == []
    assert targets('</2>; rel="nextest"') == []


def test_h6_5_rel_is_compared_without_case() -> None:
    assert targets('</2>; REL="NeXT"') == ["/2"]


def test_h6_5_the_first_rel_parameter_wins() -> None:
    assert targets('</9>; rel=last; rel=next, </2>; rel="next"; rel="last"') == ["/2"]


def test_h6_5_links_with_an_anchor_are_about_another_resource() -> None:
    assert targets('</8>; rel=next; anchor="#part", </9>; anchor=""; rel=next, </2>; rel=next') == ["/2"]


def test_h6_5_commas_and_semicolons_in_urls_and_quotes() -> None:
    value = (
        '</1>; title="a, b; rel=next, </8>; rel=next", '
        '</2?a=1,2;b=3>; title="say \\"hi\\", you"; rel="next"'
    )
    assert targets(value) == ["/2?a=1,2;b=3"]


def test_h6_5_relative_targets_are_resolved() -> None:
    for target, expected in [
        ("?page=2", "https://h/a/b?page=2"),
        ("c", "https://h/a/c"),
        ("../c?x", "https://h/c?x"),
        ("/c", "https://h/c"),
        ("//other/c", "https://other/c"),
        ("http://h/c", "http://h/c"),
        ("", "https://h/a/b?page=1"),
    ]:
        assert str(linked_url(response(f"<{target}>; rel=next"), "next")) == expected


def test_the_first_link_of_all_header_fields_counts() -> None:
    answer = response("nonsense", "</9>; rel=last", "</2>; rel=next, </3>; rel=next", "</4>; rel=next")
    assert str(linked_url(answer, "next")) == "https://h/2"
    assert str(linked_url(answer, "last")) == "https://h/9"
    assert linked_url(answer, "prev") is None
    assert linked_url(response(), "next") is None


def test_a_target_that_is_no_url_is_refused() -> None:
    with pytest.raises(httpx.InvalidURL):
        linked_url(response("<https://h:port/>; rel=next"), "next")


@pytest.mark.parametrize(
    "part", ["<", "<>;", '<>;a="', "\\", ", ", ";=", '<>;a="\\', "<>; ", "<" * 10, "\t"]
)
def test_huge_values_take_no_time(part: str) -> None:
    begin = time.process_time()
    list(parse_links(part * 50_000))
    assert time.process_time() - begin < 2
