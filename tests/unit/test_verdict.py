"""Enrol, train a head, or retrain: accuracies, gains, costs, break-even, and what is said of them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.answer_hits import AnswerHits, Enrolled
from dmlstudy.evaluate.verdict import GAIN, LOSS, NOT_SHOWN, halves, verdict_table
from dmlstudy.evaluate.verdict import Scores as ScoresOfOptions
from dmlstudy.evaluate.verdict_costs import front, start_seconds, verdict_costs_table
from dmlstudy.pages.results.kept import VERDICT, KeptStudy
from dmlstudy.pages.results.verdict import answered
from dmlstudy.pages.verdict.options import Options
from dmlstudy.pages.verdict.section import verdict_section
from dmlstudy.pages.verdict.sentences import details, headline

CLASSES, QUERIES_OF_A_CLASS = 30, 12
QUERIES = np.repeat(np.arange(CLASSES), QUERIES_OF_A_CLASS)
SEEN = {"limited_classes": np.arange(CLASSES) < 20}
DRAWS = {"draws": 400, "seed": 5}
FREE, HEADS, NETWORK = "features", "heads", "network"
TRAINED = {FREE: "nothing", HEADS: "head", NETWORK: "backbone"}


def hits(
    rng, enrolled, trained=0.5, *, answers=("nearest",), seeds=1, seen=None, softmax=False, draws=4
):
    """`AnswerHits` that are right with a chance of ``enrolled`` (few photographs: half of it) and ``trained``."""
    shape = (seeds, len(answers), 3, len(QUERIES))
    chance = np.array([0, enrolled / 2, enrolled])[:, None]
    found = AnswerHits(
        QUERIES,
        list(answers),
        [*answers, "softmax"] if softmax else list(answers),
        rng.random((seeds, len(answers) + softmax, len(QUERIES))) < trained,
        class_weights=512,
    )
    for name in seen or SEEN:
        counts = np.array([1, draws, 1])[:, None]
        found.enrolled[name] = Enrolled(
            ["0", "5", "all"], [1, draws, 1], rng.binomial(counts, chance, shape).astype(np.uint16)
        )
    return found


def study(free=0.4, heads=(0.4, 0.4), network=(0.4, 0.4), **options):
    """Hits of one experiment of each kind; None leaves one out."""
    rng = np.random.default_rng(1)
    chances = {FREE: (free, 0.0), HEADS: heads, NETWORK: network}
    return {
        name: hits(rng, *pair, **options)
        for name, pair in chances.items()
        if pair is not None and pair[0] is not None
    }


def table(of=None, seen=None, trained=None, **values):
    return verdict_table(of or study(**values), trained or TRAINED, seen or SEEN, **DRAWS)


def costs_of(verdict, *, device="cpu", again=600.0, photograph_device="cpu", seeds=(42,)):
    """verdict_costs.csv of a `table`: 10 minutes of training on all classes, 5 before, and round numbers."""
    names = list(dict.fromkeys(verdict["experiment"]))
    runs = pd.DataFrame(
        {
            "experiment": name,
            "seed": seed,
            "class_set": kind,
            "device": device,
            "train_seconds": time,
        }
        for name in names
        for seed in seeds
        for kind, time in (("all_classes", again), ("limited_classes", 300.0))
    )
    ways = sorted(set(verdict["answer"]) - {"softmax"})
    answers = pd.DataFrame(
        {
            "experiment": name,
            "seed": 42,
            "class_set": "limited_classes",
            "answer": answer,
            "seconds_to_fit": 2.0,
            "seconds_to_add_a_class": 0.1,
            "images_of_that_class": 50.0,
            "milliseconds_a_query": 0.3,
            "dimensions": 8,
        }
        for name in names
        for answer in ways
    )
    models = pd.DataFrame(
        {
            "experiment": name,
            "parameters": 11_000_000,
            "trained_parameters": 1_000_000,
            "gflop": 3.6,
            "milliseconds_a_photograph": 8.0,
            "device": photograph_device,
        }
        for name in names
    )
    starts = start_seconds(runs, {})
    return verdict_costs_table(
        verdict, runs, answers, models, starts, dict.fromkeys(names, 512), gallery=1000
    )


def said(verdict, costs=None):
    """Headline and all sentences."""
    options = Options(verdict, costs_of(verdict) if costs is None else costs)
    return headline(options), " ".join(details(options))


def row(verdict, experiment, new_classes="enrolled", photographs="all", answer="nearest"):
    found = verdict[
        (verdict["experiment"] == experiment)
        & (verdict["new_classes"] == new_classes)
        & (verdict["photographs"].astype(str) == photographs)
        & (verdict["answer"] == answer)
    ]
    assert len(found) == 1
    return found.iloc[0]


# Accuracies.


def test_accuracies_are_those_of_counting_one_by_one():
    """Would catch a query that counts for the wrong part, draw, seed or number of photographs."""
    seen = {**SEEN, "limited_classes_1": ~np.isin(np.arange(CLASSES), [0, 3, 5])}
    of = study(seeds=2, seen=seen, answers=("nearest", "lda"))
    found = table(of, seen)

    def slow(values, wanted):
        """Mean over seeds and draws of unseen classes of the share of right queries."""
        shares = []
        for seed in range(2):
            for name, mask in seen.items():
                of_queries = [
                    values(name, seed, query)
                    for query, class_id in enumerate(QUERIES)
                    if mask[class_id] == (wanted == "seen")
                ]
                shares.append(sum(of_queries) / len(of_queries))
        return sum(shares) / len(shares)

    for name, own in of.items():
        for place, answer in [(1, "lda")]:
            for size, draws in ((1, 4), (2, 1)):

                def enrolled(draw, seed, query, own=own, place=place, size=size, draws=draws):
                    return own.enrolled[draw].hits[seed, place, size, query] / draws

                one = row(found, name, photographs=("0", "5", "all")[size], answer=answer)
                for part in ("seen", "unseen"):
                    assert one[f"precision_at_1_{part}_classes"] == pytest.approx(
                        slow(enrolled, part)
                    )

    def retrained(draw, seed, query):
        return of[NETWORK].trained[seed, 1, query]

    one = row(found, NETWORK, "retrained", answer="lda")
    assert one["precision_at_1_unseen_classes"] == pytest.approx(slow(retrained, "unseen"))
    assert one["precision_at_1_seen_classes"] == pytest.approx(slow(retrained, "seen"))


def test_rows_say_what_was_trained_and_what_was_done():
    """Would catch untrained features that are retrained, a softmax that answers new classes, or 0 photographs."""
    found = table(study(softmax=True))
    groups = found.groupby(["experiment", "trained", "new_classes"])["photographs"].apply(list)
    assert groups.to_dict() == {
        (FREE, "nothing", "enrolled"): ["5", "all"],
        (HEADS, "head", "enrolled"): ["5", "all"],
        (HEADS, "head", "head trained"): ["all", "all"],
        (NETWORK, "backbone", "enrolled"): ["5", "all"],
        (NETWORK, "backbone", "retrained"): ["all", "all"],
    }
    assert set(found[found["answer"] == "softmax"]["new_classes"]) == {"head trained", "retrained"}


def test_gain_is_paired_by_query():
    """Would catch intervals of two independent samples: equal answers differ by exactly nothing."""
    rng = np.random.default_rng(2)
    free = hits(rng, 0.5, 0.5)
    network = hits(rng, 0.1, 0.5)
    network.trained[:] = free.enrolled["limited_classes"].hits[:, :, 2] > 0
    network.trained[0, 0, QUERIES == 25] = True
    found = row(table({FREE: free, NETWORK: network}), NETWORK, "retrained")
    counted = ~SEEN["limited_classes"][QUERIES]
    more = network.trained[0, 0] & ~(free.enrolled["limited_classes"].hits[0, 0, 2] > 0)
    assert found["compared_with"] == FREE
    assert found["difference_unseen_classes"] == pytest.approx(more[counted].mean())
    assert found["difference_unseen_classes_low"] == 0
    assert found["difference_seen_classes_low"] == found["difference_seen_classes_high"] == 0
    # One class of ten is better: other classes might not be.
    assert found["finding"] == NOT_SHOWN


@pytest.mark.parametrize(
    ("network", "expected"),
    [((0.4, 0.9), GAIN), ((0.4, 0.4), NOT_SHOWN), ((0.4, 0.05), LOSS)],
)
def test_planted_gain_is_found(network, expected):
    """Would catch a gain with the wrong sign, or one that is found where none was planted."""
    found = row(table(network=network), NETWORK, "retrained")
    assert found["finding"] == expected
    assert (found["other_half"] > 0.3) == (expected == GAIN)


def test_best_of_many_equal_options_is_no_gain():
    """Would catch a gain that only comes from choosing the luckiest of many options by its test answers."""
    rng = np.random.default_rng(0)
    names = [f"way {number}" for number in range(200)]
    of = {FREE: hits(rng, 0.5), NETWORK: hits(rng, 0.0, answers=names)}
    # Features as they are name every second query. So does each way of seen classes; of unseen ones, each
    of[FREE].enrolled["limited_classes"].hits[:, :, 2] = np.arange(len(QUERIES)) % 2
    # way names all queries of some unseen classes, by chance.
    by_chance = (rng.random((1, 200, CLASSES)) < 0.5)[:, :, QUERIES]
    every_second = np.arange(len(QUERIES)) % 2 == 1
    of[NETWORK].trained = np.where(SEEN["limited_classes"][QUERIES], every_second, by_chance)
    found = table(of)
    best = found[(found["new_classes"] == "retrained") & (found["chosen"] == 1)].iloc[0]
    assert best["difference_unseen_classes_low"] > 0
    assert best["other_half_low"] < 0 < best["other_half_high"]
    assert best["finding"] == NOT_SHOWN


def test_gain_must_hold_over_seeds():
    """Would catch a gain of one seed of two that is told as one of methods."""
    of = study(network=(0.3, 0.5), seeds=2)
    assert row(table(of), NETWORK, "retrained")["seeds"] == 2
    of[NETWORK].trained[0] = True
    found = row(table(of), NETWORK, "retrained")
    assert found["difference_unseen_classes_low"] > 0
    assert found["seeds_low"] < 0 < found["seeds_high"]
    assert found["finding"] == NOT_SHOWN
    text, more = said(table(of))
    assert "] over 2 seeds, at " in text
    assert not re.search(r",[,.)]", f"{text} {more}")


def test_option_of_a_group_has_its_highest_harmonic_mean():
    """Would catch an option that was chosen by another number, or for another number of photographs."""
    found = table(study(answers=("nearest", "lda", "class_mean")))
    for _, group in found.groupby(["trained", "new_classes", "photographs"]):
        speaker = group[group["chosen"] == 1]
        assert len(speaker) == 1
        assert speaker["harmonic_mean"].iat[0] == group["harmonic_mean"].max()


def test_halves_share_out_seen_and_unseen_classes():
    """Would catch a half without unseen classes, or a class in both halves."""
    scores = ScoresOfOptions.of(study(), TRAINED, SEEN)
    half = halves(scores, 7)
    of_class = half.reshape(CLASSES, QUERIES_OF_A_CLASS)
    assert (of_class == of_class[:, :1]).all()
    assert of_class[:20, 0].sum() == 10
    assert of_class[20:, 0].sum() == 5


def test_other_queries_are_refused():
    """Would catch answers of two splits that are paired with each other."""
    of = study()
    of[HEADS].query_classes = QUERIES[::-1].copy()
    with pytest.raises(StudyError, match="heads: answers_hits"):
        table(of)


# The file of hits.


def test_hits_survive_their_file_and_repeat_to_the_byte(tmp_path):
    """Would catch rounding, a lost axis or a date in the file."""
    own = hits(np.random.default_rng(3), 0.5, softmax=True, seeds=2)
    for name in ("one", "two"):
        own.write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = AnswerHits.read(tmp_path / "one")
    assert found.class_weights == own.class_weights == 512
    assert found.trained_answers == ["nearest", "softmax"]
    np.testing.assert_array_equal(found.trained, own.trained)
    one, other = (each.enrolled["limited_classes"] for each in (found, own))
    assert (one.photographs, one.draws) == (other.photographs, other.draws)
    np.testing.assert_array_equal(one.hits, other.hits)


def test_file_of_something_else_is_named(tmp_path):
    """Would catch a traceback of NumPy."""
    for content in (b"", b"no archive"):
        (tmp_path / "answers_hits.npz").write_bytes(content)
        with pytest.raises(
            StudyError, match=r"answers_hits\.npz: holds no answers.*forcerun answer"
        ):
            AnswerHits.read(tmp_path / "answers_hits.npz")


# Costs.


def test_costs_and_break_even_are_those_by_hand():
    """Would catch a cost that is left out, counted twice, or of another model."""
    verdict = table(network=(0.4, 0.9))
    found = costs_of(verdict)
    free = row(found, FREE)
    # 50 photographs of 8 ms, and 0.1 s; nothing was trained.
    assert free["seconds_to_add_a_class"] == pytest.approx(0.5)
    assert free["seconds_to_add_them"] == free["seconds_in_all"] == pytest.approx(10 * 0.5)
    few = row(found, FREE, photographs="5")
    assert few["seconds_to_add_a_class"] == pytest.approx(5 * 0.008 + 0.1)
    enrolled = row(found, NETWORK)
    assert enrolled["seconds_in_all"] == pytest.approx(300 + 10 * 0.5)
    # The whole gallery again, and the way of answering.
    again = row(found, NETWORK, "retrained")
    assert again["seconds_to_add_them"] == pytest.approx(600 + 1000 * 0.008 + 2)
    assert np.isnan(again["seconds_to_add_a_class"])
    assert again["times_the_cost"] == pytest.approx(610 / 5)
    assert again["break_even_classes"] == pytest.approx(610 / 0.5)
    # Features of the other photographs are stored.
    head = row(found, HEADS, "head trained")
    assert head["seconds_to_add_them"] == pytest.approx(600 + 10 * 50 * 0.008 + 2)
    assert found["times_the_cost"].notna().sum() == 2
    # Those of the network, and those of the loss.
    assert (found["trained_parameters"] == 1_000_512).all()


def test_softmax_searches_nothing():
    """Would catch a classifier that embeds a gallery which it does not use."""
    verdict = table(study(softmax=True))
    found = row(costs_of(verdict), NETWORK, "retrained", answer="softmax")
    assert found["seconds_to_add_them"] == 600
    assert found["milliseconds_a_query"] == 0


def test_initializers_and_features_are_part_of_the_training(tmp_path):
    """Would catch a retraining that leaves out the initializer, or features that cost nothing."""
    runs = pd.DataFrame(
        {"experiment": "network", "class_set": name, "seed": 42}
        for name in ("all_classes", "limited_classes")
    )
    files = {
        "initializer": {"train_seconds": 100.0, "total_seconds": 500.0},
        "features": {"images": 9, "dimensions": 4, "total_seconds": 7.0},
        "untimed": {"train_seconds": None},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    starts = {"network": {"all_classes 42": [str(tmp_path / one) for one in list(files)[:2]]}}
    found = start_seconds(runs, starts)
    assert found["initializer_seconds"].tolist() == [100, 0]
    assert found["feature_seconds"].tolist() == [7, 0]
    starts["network"]["all_classes 42"].append(str(tmp_path / "untimed"))
    assert np.isnan(start_seconds(runs, starts)["initializer_seconds"].iat[0])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 2.0, 3.0, 5.0, float("nan")]),
            st.sampled_from([0.0, 0.1, 0.5, 0.9, float("nan")]),
        ),
        max_size=12,
    )
)
def test_front_is_that_of_comparing_each_with_each(points):
    """Would catch a dominated option on the front, a missing one, or NaN that wins."""
    costs, values = (np.array([point[axis] for point in points]) for axis in (0, 1))

    def dominated(one, other):
        return (
            other[0] <= one[0] and other[1] >= one[1] and (other[0] < one[0] or other[1] > one[1])
        )

    known = [point for point in points if point[0] == point[0] and point[1] == point[1]]
    expected = [
        point in known and not any(dominated(point, other) for other in known) for point in points
    ]
    assert front(costs, values).tolist() == expected


# What is said.


def test_verdict_with_a_gain_states_its_price():
    """Would catch a verdict that leaves out the interval, the ratio or the break-even."""
    verdict = table(network=(0.4, 0.9))
    one = row(verdict, NETWORK, "retrained")
    text, more = said(verdict)
    points = f"{100 * one['difference_unseen_classes']:.1f} points ["
    assert text.startswith(f"Retrain if +{points}")
    assert "are worth 122 times the time; else enrol." in text
    assert "One retraining takes as long as enrolling 1,220 classes." in text
    assert "no difference on the new classes is shown" in more.split("Retraining with all")[0]


def test_verdict_without_a_gain_is_to_enrol():
    """Would catch a gain in words that the interval does not show."""
    text, more = said(table())
    assert text.startswith("Enrol: on 10 new classes, no gain of training the head again (")
    assert "or retraining (" in text
    assert "over enrolling was shown" in text
    assert "No gain of training on the other classes before" in text
    assert "worse" not in text
    assert more.count("no difference on the new classes is shown") == 2


def test_loss_is_said():
    """Would catch a retraining that made things worse and passes for one without a difference."""
    text, _ = said(table(network=(0.4, 0.02)))
    assert "over enrolling was shown; retraining is worse." in text


def test_training_before_is_judged_against_features_as_they_are():
    """Would catch a trained network that enrols better than untrained features, and nobody says so."""
    text, more = said(table(free=0.2, network=(0.8, 0.8)))
    assert (
        "Training on the other classes before gains, over enrolling in features as they are: a network +"
        in text
    )
    assert "is better than enrolling in features as they are: +" in more


def test_cheap_retraining_is_no_luxury():
    """Would catch a price below that of enrolling that is told as one to pay."""
    verdict = table(network=(0.4, 0.9))
    costs = costs_of(verdict)
    costs.loc[costs["new_classes"] == "retrained", "times_the_cost"] = 0.5
    assert "and takes no longer than that." in said(verdict, costs)[0]


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("heads", "No head was trained on features of a network that stays as it is"),
        ("network", "No network was trained, so nothing says what retraining gains"),
        ("free", "Features as they are were not among the experiments"),
    ],
)
def test_what_was_not_run_is_said(left_out, words):
    """Would catch a verdict on something that the study never tried."""
    verdict = table(**{left_out: None})
    text, more = said(verdict)
    assert words in more
    for other in ("No head was", "No network was", "Features as they are were not"):
        assert (other in more) == words.startswith(other)
    assert ("head" in text.split("before")[0]) == (left_out != "heads")


def test_study_without_training_only_enrols():
    """Would catch a crash, or a claim on training, in a study of untrained rows alone."""
    verdict = table({FREE: study()[FREE]})
    text, more = said(verdict)
    assert text.startswith("Enrol: nothing was trained in this study")
    assert "No head was trained" in more
    assert "No network was trained" in more
    assert np.isnan(costs_of(verdict)["times_the_cost"]).all()


def test_unknown_costs_are_said():
    """Would catch "nan times the time", or a verdict that hides that a cost is not known."""
    verdict = table(network=(0.4, 0.9))
    costs = costs_of(verdict, again=np.nan)
    text, more = said(verdict, costs)
    assert "Retraining gains +" in text
    assert "How long retraining of network takes is not known" in text
    assert "nan" not in text + more
    assert "takes an unknown time" in more
    assert costs.loc[costs["new_classes"] == "retrained", "on_front"].tolist() == [0]


def test_other_devices_are_not_divided():
    """Would catch seconds of a GPU in units of seconds of a CPU."""
    verdict = table(network=(0.4, 0.9))
    text, _ = said(verdict, costs_of(verdict, device="NVIDIA H200"))
    assert "trained on NVIDIA H200, photographs embedded on cpu" in text
    assert "times the time" not in text


def test_sentences_name_no_number_without_its_table():
    """Would catch a figure in a template: each one of the headline follows from the tables."""
    verdict = table(network=(0.4, 0.9))
    first = said(verdict)[0]
    numbers = re.findall(r"\d[\d,.]*", first)
    changed = table(study(network=(0.2, 0.7), heads=(0.3, 0.8)))
    costs = costs_of(changed, again=900.0)
    second = re.findall(r"\d[\d,.]*", said(changed, costs)[0])
    # What both have in common: precision@1 and the number of classes.
    assert set(numbers) & set(second) <= {"1", "10"}


def test_results_page_answers_the_question_for_studies_that_have_it():
    """Would catch another verdict in the documentation than on the page."""
    verdict = table(network=(0.4, 0.9))
    costs = costs_of(verdict)
    kept = KeptStudy({}, dict(zip(VERDICT, (verdict, costs), strict=True)), name="x")
    ((question, text),) = answered(kept)
    assert question == "Enrol, train a head, or retrain?"
    plain = headline(Options(verdict, costs))
    assert text[0] == plain
    assert f"`{NETWORK}`" in " ".join(text)
    assert answered(KeptStudy({}, {}, name="x")) == []


def test_section_draws_each_option_and_escapes_names():
    """Would catch an option that the picture leaves out, or a name that becomes markup."""
    name = "<b>network</b>"
    of = study(network=(0.4, 0.9), answers=("nearest", "lda"))
    of[name] = of.pop(NETWORK)
    verdict = table(of, trained={**TRAINED, name: "backbone"})
    costs = costs_of(verdict)
    html = str(verdict_section({"verdict": verdict, "verdict_costs": costs}))
    assert "<b>network" not in html
    spec = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html).group(1))
    *groups, line = spec["data"]
    assert sum(len(trace["x"]) for trace in groups) == (costs["photographs"] == "all").sum()
    assert len(line["x"]) == costs["on_front"].sum()
    assert line["x"] == sorted(line["x"])
    assert spec["layout"]["xaxis"]["type"] == "log"
    assert verdict_section({"verdict": pd.DataFrame(), "verdict_costs": pd.DataFrame()}) == ""


def test_tables_of_two_studies_are_refused():
    """Would catch costs beside the accuracy of another option."""
    verdict = table()
    with pytest.raises(StudyError, match="different rows"):
        Options(verdict, costs_of(verdict).iloc[::-1])
