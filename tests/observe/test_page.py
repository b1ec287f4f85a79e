from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgeq.observe.page import POLICY
from edgeq.observe.page import Page as StatusPage
from tests.observe.markup import HOSTILE, Page
from tests.observe.statuses import (
    NOW,
    POINTS,
    UNSERVED,
    a_drift,
    a_model,
    a_refusal,
    a_series,
    a_status,
    a_stream,
    a_version,
    an_event,
)


def html_of(status: dict[str, Any]) -> str:
    return StatusPage().html(status)


def text_of(status: dict[str, Any]) -> str:
    return re.sub(r"\s+", " ", Page(html_of(status)).text)


def tags_of(status: dict[str, Any], tag: str) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in Page(html_of(status)).tags if name == tag]


def test_the_page_tells_version_engine_times_and_samples():
    text = text_of(a_status(face=a_model()))
    for part in ("version 3, cpu-int8", "serving", "entropy",
                 "p50 0.500 ms (line), p99 1.25 ms (band)", "12.0 requests/s",
                 "64, 16 held out", "version 2", "1,234 requests",
                 "None in the last 200 frames", "Nothing needs you"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("state", ["waiting", "serving", "building", "probation", "failed"])
def test_every_state_has_its_place(state):
    assert state in text_of(a_status(face=a_model(state=state)))


def test_a_model_that_serves_nothing_says_so():
    text = text_of(a_status(face=a_model(**UNSERVED)))
    assert "not served" in text
    assert "0 of 1 model served" in text
    assert "No request in the last hour" in text


def test_a_version_that_has_just_taken_over_has_no_figures_yet():
    live = {"version": "4", "engine": "cpu-int8", "since": NOW, "method": "entropy"}
    assert "version 4 has just taken over" in text_of(a_status(face=a_model(live=live)))


def test_a_model_that_nobody_asks_says_since_when():
    old = [(NOW - 900 - 10 * n, "3", "cpu-int8", 120, 0.5, 1.25) for n in (2, 1, 0)]
    text = text_of(a_status(face=a_model(series=a_series(*old))))
    assert "no request since" in text
    assert "60 min ago" in text


def test_samples_that_do_not_suffice_are_shown_against_what_is_needed():
    samples = {**a_model()["samples"], "fit": 10, "held_out": 2}
    status = a_status(face=a_model(samples=samples))
    assert "12 of 64 that a build needs" in text_of(status)
    assert {"max": "64", "value": "12"}.items() <= tags_of(status, "progress")[0].items()


def test_samples_of_several_drifts_are_told_apart():
    strata = [
        {"name": "before", "samples": 40},
        {"name": "since 2026-11-23T17:32:24Z", "samples": 24},
    ]
    samples = {**a_model()["samples"], "strata": strata}
    text = text_of(a_status(face=a_model(samples=samples)))
    assert "by drift40 before, 24 since 2026-11-23T17:32:24Z" in text
    assert "by drift" not in text_of(a_status(face=a_model()))


def test_a_running_build_shows_why_and_how_far_it_is():
    build = {"cause": "drift", "model_sha256": "ab"}
    progress = {"stage": "calibrate", "done": 3, "total": 48}
    status = a_status(face=a_model(state="building", build=build, progress=progress))
    assert "Building, because the inputs drift: calibrate 3 of 48" in text_of(status)
    assert {"max": "48", "value": "3"}.items() <= tags_of(status, "progress")[0].items()
    assert "1 building" in text_of(status)


def test_a_build_that_does_not_know_how_far_it_is_or_waits_has_a_bar_without_a_value():
    build = {"cause": "samples", "model_sha256": "ab"}
    for progress in (None, {"stage": "bundle", "done": 0, "total": 0}):
        status = a_status(face=a_model(build=build, progress=progress))
        assert (progress["stage"] if progress else "waiting") in text_of(status)
        assert "value" not in tags_of(status, "progress")[0]


def test_a_version_on_probation_stands_beside_the_one_before():
    shadow = {"compared": 120, "disagreement": 0.0125}
    probation = {"version": "3", "before": "2", "ends_in_s": 21.4,
                 "latency": {"requests": 30, "median_s": 0.0005}, "shadow": shadow,
                 "latency_before": {"requests": 90, "median_s": 0.001}}  # fmt: skip
    text = text_of(a_status(face=a_model(state="probation", probation=probation)))
    for part in ("version 3 beside version 2", "0.500 ms, before 1.00 ms",
                 "1.25 % disagree of 120 compared", "21 s left"):  # fmt: skip
        assert part in text
    silent = {**probation, "latency": {"requests": 0, "median_s": 0.0}, "shadow": None}
    assert "before 1.00 ms" not in text_of(a_status(face=a_model(probation=silent)))


def test_a_drift_is_told_in_words_and_by_bars_the_worst_first():
    calm, loud = a_stream("image", psi=0.02), a_stream("conv", psi=0.4, kind="activation")
    drift = a_drift(calm, loud, active=True, reason="input 'x': lower, PSI 0.41 > 0.10")
    status = a_status(face=a_model(drift=drift))
    text = text_of(status)
    assert "lower, PSI 0.41 > 0.10" in text
    assert text.index("conv") < text.index("PSI 0.020")
    assert "1 drifting" in text
    bars = [a["width"] for a in tags_of(status, "rect") if a["class"] == "value"]
    assert bars == ["87.5%", "10.0%"]
    said = [a["aria-label"] for a in tags_of(status, "svg") if a.get("class") == "bar"]
    assert said == ["400% of the threshold", "20% of the threshold"]


def test_a_bar_without_a_threshold_is_empty():
    for threshold in (None, float("inf"), 0.0):
        drift = a_drift(a_stream(threshold=threshold), a_stream("y", psi=None, statistic="psi"))
        bars = tags_of(a_status(face=a_model(drift=drift)), "rect")
        assert [a["width"] for a in bars if a["class"] == "value"] == ["0.0%", "0.0%"]


def test_rails_and_ranges_are_told_where_they_have_changed():
    stream = a_stream(high_ratio=0.031, scale_ratio=0.52)
    text = text_of(a_status(face=a_model(drift=a_drift(stream))))
    assert "3.10 % at the high rail, 0.100 % at calibration" in text
    assert "calibration would choose 0.52 of its range now" in text
    assert "low rail" not in text


def test_of_many_streams_those_far_from_their_thresholds_are_folded_away():
    streams = [a_stream(f"t{number}", psi=number / 1000) for number in range(40)]
    status = a_status(face=a_model(drift=a_drift(*streams)))
    assert "34 more" in text_of(status)
    assert text_of(status).index("t39") < text_of(status).index("34 more")


@pytest.mark.parametrize(
    ("faults", "identical_s", "told", "look"),
    [
        ({"too_dark": 20}, 0.0, "Input image: of 1,000 frames too dark 20", "health"),
        ({"too_dark": 2, "stuck": 1}, 0.0, "frames too dark 2, stuck 1", "dim"),
        ({"stuck": 2}, 4.2, "stuck 2, the same frame for 4.20 s", "health"),
        ({"too_dark": 0}, 0.0, "of 1,000 frames none was amiss", "dim"),
    ],
)
def test_the_inputs_health_is_told_and_stands_out_where_it_matters(faults, identical_s, told, look):
    health = {"tensor": "image", "frames": 1000, "faults": faults, "identical_s": identical_s}
    html = html_of(a_status(face=a_model(drift=a_drift(health=[health]))))
    assert told in re.sub(r"\s+", " ", Page(html).text)
    assert f'<p class="{look}"><strong>Input image' in html


def test_frames_that_are_not_calibrated_on_and_a_recalibration_are_told():
    drift = a_drift(active=True, unfit="a stuck camera", recalibration="waits for 12 samples")
    text = text_of(a_status(face=a_model(drift=drift)))
    assert "Not to be calibrated on: a stuck camera" in text
    assert "Recalibration: waits for 12 samples" in text


def test_a_rail_that_fills_up_is_measured_from_what_it_held_at_calibration():
    rails = {"low_reference": 0.48, "low_ratio": 0.49, "low_threshold": 0.5}
    status = a_status(face=a_model(drift=a_drift(a_stream(psi=0.001, **rails))))
    bars = [a["width"] for a in tags_of(status, "rect") if a["class"] == "value"]
    assert bars == ["25.0%"]
    assert "low rail 49.0 %" in text_of(status)


def test_what_is_wrong_stands_first_with_a_command_that_helps():
    live = {"version": "3", "engine": "cpu-int8", "since": 0.0, "method": "entropy",
            "fault": "CUDA error 700"}  # fmt: skip
    models = {
        "a": a_model(health={"requests": 50, "errors": 2, "nonfinite": 1}),
        "b": a_model(**{**UNSERVED, "state": "failed", "reason": "no version can be served"}),
        "c": a_model(reason="build rejected: agreement 0.7 < 0.98"),
        "d": a_model(live=live),
        "e": a_model(drift=a_drift(active=True, reason="darker")),
    }
    text = text_of({**a_status(**models), "quarantine": [a_refusal()]})
    for part in ("a: 2 requests failed in the engine, of 50 edgeq rollback a",
                 "b: no version can be served edgeq history b",
                 "c: build rejected: agreement 0.7 < 0.98 edgeq history c",
                 "d: CUDA error 700 edgeq doctor",
                 "e: darker edgeq recalibrate e", "1 drop refused"):  # fmt: skip
        assert part in text.replace("Copy", " ").replace("  ", " ")
        assert text.replace("Copy", " ").replace("  ", " ").index(part) < text.index("1,234")
    assert "Nothing needs you" not in text


def test_a_pinned_model_says_so_and_how_to_undo_it():
    text = text_of(a_status(face=a_model(pinned=True)))
    assert "pinned" in text
    assert "edgeq unpin face" in text
    assert "edgeq pin face" not in text


def test_a_name_that_the_shell_would_read_is_quoted():
    assert "edgeq rollback 'a; b'" in text_of(a_status(**{"a; b": a_model()}))


def test_without_models_the_page_says_what_to_do():
    assert "drop a .tflite file" in text_of(a_status())


def test_nothing_from_outside_becomes_markup():
    live = {"version": HOSTILE, "engine": HOSTILE, "since": 0.0, "method": HOSTILE,
            "fault": HOSTILE, "batching": HOSTILE}  # fmt: skip
    health = {"tensor": HOSTILE, "frames": 1, "faults": {HOSTILE: 1}, "identical_s": 0.0}
    drift = a_drift(a_stream(HOSTILE), active=True, reason=HOSTILE, health=[health])
    swaps = [{"time": NOW - 60, "version": HOSTILE, "engine": HOSTILE}]
    model = a_model(
        live=live, state=HOSTILE, reason=HOSTILE, drift=drift, previous=HOSTILE,
        progress={"stage": HOSTILE, "done": 1, "total": 2},
        build={"cause": HOSTILE, "model_sha256": HOSTILE},
        versions=[a_version(HOSTILE, engine=HOSTILE, method=HOSTILE, state=HOSTILE)],
        series=a_series((NOW, HOSTILE, HOSTILE, 1, 0.5, 1.0), swaps=swaps),
    )  # fmt: skip
    refusal = dict.fromkeys(("id", "name", "stage", "error", "hint"), HOSTILE)
    refusal = {**refusal, "time": 0.0}
    event = an_event(name=HOSTILE, kind=HOSTILE, message=HOSTILE, version=HOSTILE)
    status = {**a_status(**{HOSTILE: model}), "events": [event], "quarantine": [refusal]}
    page = Page(html_of(status))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(HOSTILE) >= 20
    targets = [a["href"] or "" for tag, a in page.tags if tag == "a"]
    assert all(target.startswith(("#", "/edgeq/")) for target in targets)


def test_what_could_reorder_the_text_beside_it_is_replaced():
    assert "\u202e" not in html_of(a_status(face=a_model(reason="gpj\u202eexe")))


def test_the_page_needs_nothing_from_elsewhere():
    page = Page(html_of(a_status(face=a_model())))
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "style"}
    targets = [v or "" for _, a in page.tags for k, v in a.items() if k in ("href", "src")]
    assert all(target.startswith(("/edgeq/", "#")) for target in targets)
    assert not any("style" in attributes for _, attributes in page.tags)
    for file in StatusPage().files.values():
        content = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", content)


def test_the_policy_lets_nothing_inline_run():
    assert POLICY.startswith("default-src 'none';")
    assert "unsafe" not in POLICY


def test_the_script_sets_no_markup():
    script = StatusPage().files["page.js"].content.decode()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script


def test_the_page_is_a_whole_document_with_landmarks():
    status = {**a_status(face=a_model()), "quarantine": [a_refusal()], "events": [an_event()]}
    html = html_of(status)
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert html.lower().startswith("<!doctype html>")
    assert tags[0] == "html"
    one = ("html", "head", "title", "body", "header", "main", "footer", "h1")
    assert [tags.count(tag) for tag in one] == [1] * len(one)
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert tags.count("table") == tags.count("caption") > 0
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(named) <= set(ids)


def test_without_scripts_the_page_renews_itself():
    assert '<noscript><meta http-equiv="refresh"' in html_of(a_status())


def test_events_are_listed_newest_as_given_and_the_older_ones_folded():
    status = {**a_status(), "events": [an_event(number) for number in range(30)]}
    text = text_of(status)
    assert text.index("message 0") < text.index("message 11") < text.index("18 older")
    assert text.index("18 older") < text.index("message 29")
    assert " older" not in text_of({**status, "events": status["events"][:12]})


def test_the_quarantine_tells_reason_hint_and_what_to_type():
    text = text_of({**a_status(), "quarantine": [a_refusal()]})
    for part in ("structure", "cut", "again", "edgeq quarantine retry hand-1a2b"):
        assert part in text


def test_of_many_refused_drops_the_older_ones_are_folded():
    entries = [a_refusal(id=f"hand-{number}", error=f"cut {number}.") for number in range(20)]
    text = text_of({**a_status(), "quarantine": entries})
    assert text.index("cut 4.") < text.index("15 older") < text.index("cut 5.")
    assert "older" not in text_of({**a_status(), "quarantine": entries[:5]}).replace("folder", "")


def test_an_update_is_json_and_holds_what_the_document_shows():
    page, status = StatusPage(), a_status(face=a_model())
    update = json.loads(json.dumps(page.update(status)))
    assert update["states"] == {"face": "serving, version 3 on cpu-int8"}
    assert update["title"] == "1 of 1 model served \N{EN DASH} edgeq"
    assert update["release"] == page.release
    assert update["release"] in page.html(status)

    def texts(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else [t for n in node[2] for t in texts(n)]

    shown = Page(page.html(status)).text
    assert "".join(texts(update["body"])) in shown


def test_an_update_is_the_same_while_nothing_changes_but_the_time():
    page, status = StatusPage(), a_status(face=a_model(series=a_series(*POINTS[:-3])))
    first, later = page.update(status), page.update({**status, "now": NOW - 4.0})
    assert first["body"] == later["body"]


def test_fifty_models_have_a_card_and_a_line_each():
    text = text_of(a_status(**{f"m{number}": a_model() for number in range(50)}))
    assert "50 of 50 models served" in text
    assert all(f"edgeq history m{number}" in text for number in range(50))
