"""The benchmarks' harness: what it lists, prints, writes and refuses; never how fast anything is."""

import json
import math
import time

import pytest

import benchmarks
from benchmarks import measure
from benchmarks.__main__ import main
from benchmarks.scenarios import POSTERIORS


def echo(word: str, **_: object) -> str:
    """Return the word: a measurement for the fresh process."""
    return word * 2


def fail(word: str) -> None:
    """Raise: a measurement that goes wrong."""
    raise ValueError(word)


def sleep(seconds: float) -> None:
    """Take longer than allowed."""
    time.sleep(seconds)


class Stub:
    """A benchmark of two cases that measures nothing."""

    CASES = ("easy", "hard")

    def run(self, case: str, budget: float, peers: bool) -> list[measure.Row]:
        """Give back what was asked, as rows."""
        figures = {"budget": (budget, "s"), "peers": (float(peers), "1"), "missing": (math.nan, "1")}
        return measure.rows(case, "sciad", figures)


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.load", lambda _: Stub())


def test_list_names_every_benchmark_with_its_cases(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in benchmarks.BENCHMARKS:
        assert name in listed
        assert ", ".join(benchmarks.load(name).CASES) in listed


@pytest.mark.usefixtures("stub")
def test_the_last_line_is_tidy_json(capsys):
    assert main(["nuts_ode", "--budget", "7", "--peers"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == {"benchmark", "machine", "versions", "rows"}
    assert set(answer["machine"]) == {"cpu", "cores", "memory_gib", "platform"}
    assert {"python", "sciad", "jax", "diffrax", "numpyro"} <= set(answer["versions"])
    assert [row["case"] for row in answer["rows"]] == ["easy"] * 3 + ["hard"] * 3
    assert all(set(row) == {"case", "system", "metric", "value", "unit"} for row in answer["rows"])
    assert {row["metric"]: row["value"] for row in answer["rows"]} == {"budget": 7.0, "peers": 1.0, "missing": None}


@pytest.mark.usefixtures("stub")
def test_one_case_is_run_alone_and_written_to_a_file(capsys, tmp_path):
    file = tmp_path / "new" / "figures.json"
    assert main(["ode_overhead", "--case", "hard", "--json", str(file)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert file.read_text() == line + "\n"
    assert {row["case"] for row in json.loads(line)["rows"]} == {"hard"}
    assert list(file.parent.iterdir()) == [file]
    # Another case is added, the same one replaced; what comes from other versions goes.
    assert main(["ode_overhead", "--case", "easy", "--json", str(file)]) == 0
    assert main(["ode_overhead", "--case", "hard", "--budget", "3", "--json", str(file)]) == 0
    kept = json.loads(file.read_text())
    assert [row["case"] for row in kept["rows"]] == ["easy"] * 3 + ["hard"] * 3
    assert {row["value"] for row in kept["rows"] if row["metric"] == "budget"} == {300.0, 3.0}
    file.write_text(json.dumps(kept | {"versions": {"jax": "0.1"}}))
    assert main(["ode_overhead", "--case", "hard", "--json", str(file)]) == 0
    assert {row["case"] for row in json.loads(file.read_text())["rows"]} == {"hard"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nuts_od"], "no benchmark is called 'nuts_od'; did you mean 'nuts_ode'?"),
        (["xyz"], "no benchmark is called 'xyz'; there are: nuts_ode, ode_fit, ode_overhead"),
        (["nuts_ode", "--case", "lynx"], "no case of nuts_ode is called 'lynx'; did you mean 'lynx_hare'?"),
    ],
)
def test_an_unknown_name_ends_with_code_2_and_a_hint(argv, message, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


def test_a_budget_must_be_positive(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["nuts_ode", "--budget", "-1"])
    assert "got -1, expected a positive number of seconds" in capsys.readouterr().err


def test_a_failed_measurement_of_sciad_ends_with_code_1(monkeypatch):
    class Failing(Stub):
        def run(self, case: str, budget: float, peers: bool) -> list[measure.Row]:
            del budget, peers
            return measure.rows(case, "sciad", {"failed": (1.0, "runs")})

    monkeypatch.setattr("benchmarks.__main__.load", lambda _: Failing())
    assert main(["nuts_ode"]) == 1


def test_isolated_returns_the_answer_of_a_fresh_process():
    assert measure.isolated(echo, timeout=60, word="ab", more=1) == "abab"


def test_isolated_repeats_the_last_words_of_a_failure():
    with pytest.raises(measure.MeasurementError, match="ended with code 1: ValueError: out of order"):
        measure.isolated(fail, timeout=60, word="out of order")


def test_isolated_stops_what_runs_too_long():
    with pytest.raises(measure.OverBudgetError, match="took longer than 1 s and was stopped"):
        measure.isolated(sleep, timeout=1, seconds=60)


def test_interleaved_calls_are_timed_alike_in_rounds():
    samples = measure.interleave(
        {"short": lambda: time.sleep(1e-3), "long": lambda: time.sleep(4e-3)},
        seconds=0.0,
        slice_seconds=2e-3,
        least_rounds=5,
    )
    assert {name: len(times) for name, times in samples.items()} == {"short": 5, "long": 5}
    assert all(times > 4e-3 for times in samples["long"])


def test_the_compile_clock_counts_nested_and_overlapping_times_once(monkeypatch):
    clock = measure.CompileClock()
    for now, duration in [(3.0, 1.0), (5.0, 4.0), (6.0, 2.0), (9.0, 1.0)]:
        monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda now=now: now)
        clock._listen("/jax/core/compile/backend_compile_duration", duration)
    clock._listen("/jax/other", 100.0)
    assert clock.seconds == 6.0


def test_the_compile_clock_hears_a_compilation():
    import jax
    import jax.numpy as jnp

    clock = measure.CompileClock()
    jax.jit(lambda x: jnp.sin(x) + 0.25)(jnp.ones(3)).block_until_ready()
    assert clock.seconds > 0


def test_the_ratio_is_the_median_of_ratios_within_rounds():
    assert measure.ratio([2.0, 40.0, 3.0], [1.0, 10.0, 3.0]) == 2.0


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_scenario_has_a_reference_for_what_is_sampled(name):
    posterior = POSTERIORS[name]
    assert set(posterior.sampled) <= set(posterior.reference)
    assert all(len(series) == len(posterior.times) for series in posterior.observed.values())


def test_the_z_score_is_small_for_draws_of_the_reference_and_large_for_shifted_ones():
    import numpy as np

    from benchmarks import nuts_ode

    posterior, random = POSTERIORS["boarding_school"], np.random.default_rng(0)
    draws = {name: random.normal(mean, sd, (4, 1000)) for name, (mean, sd) in posterior.reference.items()}
    assert nuts_ode._max_abs_z(draws, posterior) < 4
    draws["gamma"] += posterior.reference["gamma"][1]
    assert nuts_ode._max_abs_z(draws, posterior) > 20


def test_a_peer_is_compared_by_the_time_to_its_best_error(monkeypatch):
    from benchmarks import pinn

    ours = {"trace": [(1.0, 0.5), (2.0, 0.01), (3.0, 1e-4)], "compile_seconds": 0.5, "run_seconds": 3.0}
    theirs = {"trace": [(5.0, 0.3), (8.0, 0.02), (9.0, 0.04)], "compile_seconds": 0.0, "iterations": 7}
    ahead = {"trace": [(5.0, 1e-6)], "compile_seconds": 0.0, "iterations": 7}

    def isolated(measurement, *, peer=None, **arguments):
        del measurement
        if peer is None:
            return ours | {"held_out_residual": 0.1}
        if arguments["precision"] == "float64" and peer == "deepxde":
            message = "no environment"
            raise measure.MeasurementError(message)
        return ahead if peer == "jinns" else theirs

    monkeypatch.setattr(pinn, "isolated", isolated)
    found = {(row["system"], row["metric"]): row["value"] for row in pinn.run("wave", 1.0, peers=True)}
    assert found["sciad", "rel_l2"] == 1e-4
    assert found["sciad", "held_out_residual"] == 0.1
    assert found["sciad", "reference_floor"] == pytest.approx(0, abs=1e-14)
    assert (found["deepxde", "rel_l2"], found["deepxde", "best_seconds"]) == (0.02, 8.0)
    assert found["deepxde", "ratio_to_sciad"] == 4.0  # we were there after two seconds
    assert found["jinns", "ratio_to_sciad"] is None  # never
    assert found["deepxde_float64", "failed"] == 1.0


def test_estimates_are_judged_by_the_truth_and_by_what_they_say(monkeypatch):
    from benchmarks import pinn_inverse

    def isolated(measurement, *, system, seed, **arguments):
        del measurement, arguments
        if system == "simulation":
            message = "out of order"
            raise measure.MeasurementError(message)
        found = {"first": 1.0 + 0.01 * (seed + 1), "second": 0.0025}
        return {"found": found, "errors": {"first": 0.01, "second": 1.0}, "seconds": 5.0 * seed}

    monkeypatch.setattr(pinn_inverse, "isolated", isolated)
    found = {(row["system"], row["metric"]): row["value"] for row in pinn_inverse.run("kdv_noise", 1.0, peers=False)}
    assert found["sciad", "rel_error"] == found["sciad", "first"] == pytest.approx(0.02)
    assert found["sciad", "z_first"] == pytest.approx(2.0)
    assert found["sciad", "z_second"] == found["sciad", "second"] == 0.0
    assert found["sciad_known_start", "seconds"] == 5.0
    assert found["simulation", "failed"] == 1.0


def test_coverage_is_the_share_of_intervals_that_hold_the_truth(monkeypatch):
    from benchmarks import pinn_coverage

    scores = {"sciad": {"rate": [0.0, 1.6, -1.7, 2.0]}, "simulation": {"rate": [1.0, -1.0]}}
    monkeypatch.setattr(pinn_coverage, "isolated", lambda *_, **__: scores)
    found = {(row["system"], row["metric"]): row["value"] for row in pinn_coverage.run("rod", 1.0, peers=False)}
    assert found["sciad", "coverage_rate"] == 0.5
    assert found["simulation", "coverage_rate"] == found["simulation", "error_rate"] == 1.0


def test_hard_domains_print_their_references_own_error(monkeypatch):
    from benchmarks import pinn_domains

    def isolated(measurement, *, seed, trained, **arguments):
        del measurement, arguments
        if trained:
            message = "out of memory"
            raise measure.MeasurementError(message)
        return {"rel_l2": 0.1 * seed, "run_seconds": 2.0, "compile_seconds": 1.0, "held_out_residual": 0.5}

    monkeypatch.setattr(pinn_domains, "isolated", isolated)
    found = {(row["system"], row["metric"]): row["value"] for row in pinn_domains.run("poisson5d", 1.0, peers=False)}
    assert found["sciad", "rel_l2"] == 0.1
    assert found["sciad_trained", "failed"] == 1.0
    assert found["sciad", "reference_floor"] == pytest.approx(2.2e-16, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("equation", ["burgers", "kdv"])
def test_simulations_find_the_coefficients_of_exact_data(equation):
    from benchmarks.pde_inverse import errors
    from benchmarks.pinn_inverse import estimated

    found = estimated(f"{equation}_clean", "simulation", 0, 60.0)
    assert max(errors(equation, found["found"]).values()) < 1e-5
    assert found["errors"] is None
