# SPDX-License-Identifier: Apache-2.0
"""The scheduler's rules on virtual time; each names the section of the facts it is from.

§ numbers are those of the notes on the real server that the simulator was written from.
"""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from ollama_exporter.simulator.model_files import GIB, MIB, ModelFile
from ollama_exporter.simulator.placement import SERVER_BUSY, next_lower_context
from ollama_exporter.simulator.scheduler import Scheduler
from ollama_exporter.simulator.state import (
    NEVER,
    Granted,
    Host,
    Listed,
    Load,
    LoadRefused,
    QueuedRequest,
    RunnerOptions,
    Started,
    TrueReason,
    Unload,
)

AUTO = 32768
LOAD = 10.0


def model_file(name: str, size: int = 4 * GIB, **more: object) -> ModelFile:
    fields: dict[str, object] = {
        "weights": f"sha256-{name}",
        "size": size,
        "family": "llama",
        "parameter_size": "7B",
        "quantization": "Q4_0",
        "train_context": 65536,
        "embedding_length": 8,
        "kv_per_token": 0,
        "load_seconds": LOAD,
        "prompt_rate": 1000.0,
        "token_rate": 50.0,
    }
    return ModelFile(**(fields | more))  # type: ignore[arg-type]  # test data by name


@dataclass
class Bench:
    """A scheduler, and a log of its effects by request."""

    host: Host = field(default_factory=Host)
    files: dict[str, ModelFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.host, 0.0)
        self.ids = itertools.count(1)
        self.granted: dict[int, float] = {}
        self.started: dict[int, float] = {}
        self.refused: dict[int, LoadRefused] = {}

    def ask(
        self,
        at: float,
        name: str,
        *,
        keep_alive: float | None = None,
        num_ctx: int | None = None,
        num_gpu: int = -1,
        others: frozenset[tuple[str, object]] = frozenset(),
    ) -> int:
        file = self.files.get(name) or model_file(name)
        options = RunnerOptions(num_ctx or AUTO, num_ctx is None, others, num_gpu)
        number = next(self.ids)
        self.scheduler.arrive(
            at, QueuedRequest(number, f"{name}:latest", f"digest-{name}", file, options, keep_alive)
        )
        return number

    def until(self, at: float) -> None:
        self.scheduler.advance(at)
        for effect in self.scheduler.effects:
            match effect:
                case Granted():
                    self.granted[effect.id] = effect.at
                case Started():
                    self.started[effect.id] = effect.at
                case LoadRefused():
                    self.refused[effect.id] = effect
        self.scheduler.effects.clear()

    def loaded(self, at: float, name: str, **how: float) -> None:
        """Load a model with a request that ends at once."""
        number = self.ask(at, name, **how)  # type: ignore[arg-type]  # keep_alive, num_ctx
        self.until(at + LOAD)
        self.scheduler.finish(at + LOAD, number)

    def ps(self, at: float) -> dict[str, Listed]:
        self.until(at)
        return {entry.name.removesuffix(":latest"): entry for entry in self.scheduler.listed(at)}

    def unloads(self) -> list[tuple[str, TrueReason, float]]:
        return [
            (event.name.removesuffix(":latest"), event.reason, event.at)
            for event in self.scheduler.truth
            if isinstance(event, Unload)
        ]


def test_a_model_is_listed_only_after_its_load_1_3() -> None:
    bench = Bench()
    number = bench.ask(0, "a")
    assert bench.ps(LOAD - 0.001) == {}
    assert list(bench.ps(LOAD)) == ["a"]
    assert bench.granted == {number: LOAD}


def test_the_old_generation_lists_it_while_loading_with_a_sliding_deadline_1_3() -> None:
    bench = Bench(Host(generation="old", keep_alive=300))
    bench.ask(0, "a")
    assert bench.ps(2)["a"].expires_at == 302
    assert bench.ps(7)["a"].expires_at == 307


def test_the_deadline_slides_until_the_runner_is_first_idle_14() -> None:
    bench = Bench(Host(keep_alive=300))
    first = bench.ask(0, "a")
    bench.until(LOAD)
    second = bench.ask(11, "a")
    bench.scheduler.finish(12, first)
    assert bench.ps(20)["a"].expires_at == 320  # the first ended, the second has not
    bench.scheduler.finish(25, second)
    assert bench.ps(30)["a"].expires_at == 325


def test_the_deadline_is_stale_while_a_later_request_runs_and_may_be_past_1_3() -> None:
    bench = Bench(Host(keep_alive=20))
    bench.loaded(0, "a")
    number = bench.ask(15, "a")
    assert bench.ps(100)["a"].expires_at == LOAD + 20
    bench.scheduler.finish(101, number)
    assert bench.ps(101)["a"].expires_at == 121


def test_an_idle_model_expires_at_its_deadline_2_1() -> None:
    bench = Bench(Host(keep_alive=20))
    bench.loaded(0, "a")
    assert "a" in bench.ps(29.9)
    assert bench.ps(30) == {}
    assert bench.unloads() == [("a", TrueReason.EXPIRED, 30)]


def test_keep_alive_is_sticky_1_4() -> None:
    bench = Bench(Host(keep_alive=300))
    bench.loaded(0, "a", keep_alive=1000)
    number = bench.ask(20, "a")  # names none: the runner's last value stays
    bench.scheduler.finish(21, number)
    assert bench.ps(22)["a"].expires_at == 1021
    number = bench.ask(30, "a", keep_alive=5)  # a shorter one replaces it when the request ends
    assert bench.ps(31)["a"].expires_at == 1021
    bench.scheduler.finish(32, number)
    assert bench.ps(33)["a"].expires_at == 37


def test_a_negative_keep_alive_lasts_292_years_1_2() -> None:
    bench = Bench()
    bench.loaded(0, "a", keep_alive=NEVER)
    assert bench.ps(50)["a"].expires_at == pytest.approx(LOAD + NEVER)


def test_keep_alive_0_slides_as_now_and_removes_at_the_end_2_1() -> None:
    bench = Bench()
    number = bench.ask(0, "a", keep_alive=0)
    assert bench.ps(12)["a"].expires_at == 12
    bench.scheduler.finish(13, number)
    assert bench.ps(13) == {}
    assert bench.unloads() == [("a", TrueReason.STOPPED, 13)]


def test_a_stop_removes_an_idle_model_at_once_2_1() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    bench.scheduler.stop(15, "sha256-a")
    assert bench.ps(15) == {}
    assert bench.unloads() == [("a", TrueReason.STOPPED, 15)]


def test_a_stop_while_busy_drops_the_deadline_and_waits_2_1() -> None:
    bench = Bench(Host(keep_alive=300))
    bench.loaded(0, "a")
    number = bench.ask(15, "a")
    bench.scheduler.stop(20, "sha256-a")
    assert bench.ps(24)["a"].expires_at == 20
    bench.scheduler.finish(30, number)
    assert bench.ps(30) == {}
    assert bench.unloads() == [("a", TrueReason.STOPPED, 30)]


def test_a_stop_of_what_is_not_loaded_does_nothing() -> None:
    bench = Bench()
    bench.scheduler.stop(1, "sha256-a")
    assert bench.scheduler.crash(1, "sha256-a") == []
    assert bench.scheduler.out_of_memory(1, "sha256-a") == []
    assert bench.unloads() == []


def test_one_load_at_a_time_and_loaded_models_serve_past_the_queue_4_2() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a")
    first, second = bench.ask(20, "b"), bench.ask(20, "c")
    warm = bench.ask(21, "a")
    bench.until(21)
    assert bench.granted[warm] == 21
    assert bench.scheduler.loading == "b:latest"
    assert bench.scheduler.queued == 1
    bench.until(60)
    assert (bench.granted[first], bench.granted[second]) == (30, 40)


def test_the_queue_is_full_at_its_limit_3_6() -> None:
    bench = Bench(Host(max_queue=2))
    bench.ask(0, "a")
    bench.ask(0, "b")
    bench.ask(0, "b")
    late = bench.ask(0, "c")
    bench.until(0)
    assert bench.refused[late].status == 503
    assert bench.refused[late].error == SERVER_BUSY


def test_slots_serve_one_after_the_other_and_parallel_ones_together_3_2() -> None:
    for parallel, third_waits in ((1, True), (3, False)):
        bench = Bench(Host(parallel=parallel))
        bench.loaded(0, "a")
        numbers = [bench.ask(20, "a") for _ in range(3)]
        bench.until(20)
        assert all(bench.granted[number] == 20 for number in numbers)
        assert (numbers[2] not in bench.started) == third_waits
        bench.scheduler.finish(25, numbers[0])
        bench.scheduler.finish(26, numbers[1])
        bench.until(26)
        assert bench.started[numbers[2]] == (26 if third_waits else 20)


def test_one_that_waits_for_a_slot_may_leave() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    first, second = bench.ask(20, "a"), bench.ask(20, "a")
    bench.scheduler.leave(21, second)
    bench.scheduler.finish(22, first)
    assert bench.ps(22)["a"].expires_at == 322
    assert second not in bench.started


# -- eviction -----------------------------------------------------------------------------------


def test_the_victim_has_the_shortest_keep_alive_not_the_oldest_use_2_2() -> None:
    bench = Bench(Host(max_loaded=2, memory=100 * GIB))
    bench.loaded(0, "a", keep_alive=1000)
    bench.loaded(20, "b", keep_alive=500)  # the younger one goes
    bench.ask(50, "c")
    assert list(bench.ps(50)) == ["a"]
    assert bench.unloads() == [("b", TrueReason.EVICTED, 50)]


def test_equal_keep_alives_are_ordered_by_weights_2_2() -> None:
    bench = Bench(Host(max_loaded=2, memory=100 * GIB))
    bench.loaded(0, "b")
    bench.loaded(20, "a")
    bench.ask(50, "c")
    assert list(bench.ps(50)) == ["b"]


def test_an_idle_model_goes_before_a_busy_one_2_2() -> None:
    bench = Bench(Host(max_loaded=2, memory=100 * GIB))
    bench.loaded(0, "a", keep_alive=100)
    bench.ask(12, "a")
    bench.loaded(20, "b", keep_alive=500)
    bench.ask(50, "c")
    assert list(bench.ps(50)) == ["a"]


def test_all_busy_the_first_in_order_is_waited_for_2_2() -> None:
    bench = Bench(Host(max_loaded=1, memory=100 * GIB, keep_alive=300))
    bench.loaded(0, "a")
    busy = bench.ask(20, "a")
    newcomer = bench.ask(22, "b")
    assert bench.ps(40)["a"].expires_at == 310  # ever idle: the deadline does not change
    bench.scheduler.finish(50, busy)
    assert bench.ps(50) == {}
    bench.until(70)
    assert bench.granted[newcomer] == 50 + bench.host.convergence + LOAD


def test_a_condemned_runner_that_was_never_idle_shows_now_14() -> None:
    bench = Bench(Host(max_loaded=1, memory=100 * GIB))
    bench.ask(0, "a")
    bench.ask(12, "b")
    assert bench.ps(20)["a"].expires_at == 20
    assert bench.ps(23)["a"].expires_at == 23


def test_memory_decides_with_headroom_of_a_fifth_2_1() -> None:
    bench = Bench(Host(memory=10 * GIB), {"small": model_file("small", 3 * GIB)})
    bench.loaded(0, "a")
    bench.ask(20, "small")  # 3.2 of 5.8 GiB: fits
    assert list(bench.ps(30)) == ["a", "small"]
    bench = Bench(Host(memory=10 * GIB), {"large": model_file("large", 5 * GIB)})
    bench.loaded(0, "a")
    bench.ask(20, "large")  # 5.3 of 5.8 GiB: more than 80 %
    assert bench.ps(20) == {}


def test_several_victims_leave_one_by_one_each_with_its_wait_14() -> None:
    sizes = {"a": 2 * GIB, "b": 3 * GIB, "big": 15 * GIB}
    files = {name: model_file(name, size) for name, size in sizes.items()}
    bench = Bench(Host(memory=20 * GIB), files)
    bench.loaded(0, "a", keep_alive=400)
    bench.loaded(20, "b", keep_alive=500)
    bench.ask(60, "big")
    bench.until(100)
    assert bench.unloads() == [("a", TrueReason.EVICTED, 60), ("b", TrueReason.EVICTED, 65)]
    loads = [event for event in bench.scheduler.truth if isinstance(event, Load)]
    assert loads[-1].started_at == 65 + bench.host.convergence


def test_a_model_too_large_loads_alone_and_partly_in_main_memory_1_5() -> None:
    bench = Bench(Host(memory=8 * GIB), {"big": model_file("big", 15 * GIB)})
    bench.ask(0, "big")
    entry = bench.ps(LOAD)["big"]
    assert entry.size_vram == 8 * GIB < entry.size


def test_without_a_gpu_nothing_is_evicted_for_memory_and_no_wait_2_2() -> None:
    bench = Bench(Host(gpu=False, memory=6 * GIB, keep_alive=40))
    bench.loaded(0, "a")
    bench.loaded(12, "b")
    assert [entry.size_vram for entry in bench.ps(30).values()] == [0, 0]
    newcomers = bench.ask(31, "c"), bench.ask(31, "d")
    bench.until(80)
    assert bench.unloads()[0] == ("a", TrueReason.EVICTED, 41)  # the count limit, when c was in
    assert bench.granted[newcomers[1]] == 51


def test_layers_fixed_by_the_client_skip_the_check_2_2() -> None:
    bench = Bench(Host(memory=6 * GIB))
    bench.loaded(0, "a")
    bench.ask(20, "b", num_gpu=0)
    entries = bench.ps(30)
    assert entries["b"].size_vram == 0
    assert "a" in entries


def test_the_evictor_of_the_same_name_replaces_2_1() -> None:
    bench = Bench(Host(max_loaded=1))
    bench.loaded(0, "a")
    bench.files["a"] = model_file("a-new")
    bench.ask(20, "a")
    bench.until(60)
    assert bench.unloads() == [("a", TrueReason.REPLACED, 20)]


def test_a_re_created_model_is_listed_twice_10() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a")
    bench.files["a"] = model_file("a-new")
    bench.ask(20, "a")
    bench.until(30)
    assert [entry.name for entry in bench.scheduler.listed(30)] == ["a:latest"] * 2


def test_an_alias_shares_the_runner_under_the_first_name_2_2() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    bench.files["alias"] = model_file("a")
    number = bench.ask(20, "alias")
    assert list(bench.ps(20)) == ["a"]
    assert bench.granted[number] == 20


# -- reloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loaded_with", "asked_with", "reloads"),
    [
        (None, None, False),
        (8192, None, True),  # §14: the careless renewal
        (None, 8192, True),
        (None, AUTO, False),  # equal to the listed context
        (8192, 8192, False),
        (AUTO, None, False),
        (100_000, 65536, False),  # cut to the training context
    ],
)
def test_a_context_reloads_unless_equal_or_automatic_on_both_sides_2_2(
    *, loaded_with: int | None, asked_with: int | None, reloads: bool
) -> None:
    bench = Bench()
    first = bench.ask(0, "a", num_ctx=loaded_with)
    bench.until(LOAD)
    bench.scheduler.finish(LOAD, first)
    bench.ask(20, "a", num_ctx=asked_with)
    bench.until(20)
    assert bench.unloads() == ([("a", TrueReason.OPTIONS_CHANGED, 20)] if reloads else [])


def test_other_runner_options_reload_2_2() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    bench.ask(20, "a", others=frozenset({("num_batch", 128)}))
    bench.until(20)
    assert bench.unloads() == [("a", TrueReason.OPTIONS_CHANGED, 20)]
    bench = Bench()
    bench.loaded(0, "a")
    bench.ask(20, "a", num_gpu=3)
    bench.until(20)
    assert bench.unloads() == [("a", TrueReason.OPTIONS_CHANGED, 20)]


# -- faults -------------------------------------------------------------------------------------


def test_a_crashed_runner_stays_listed_until_it_is_asked_2_1() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    assert bench.scheduler.crash(15, "sha256-a") == []
    assert "a" in bench.ps(100)
    number = bench.ask(101, "a")
    assert bench.ps(101) == {}
    bench.until(150)
    assert bench.granted[number] == 101 + bench.host.convergence + LOAD
    assert bench.unloads() == [("a", TrueReason.CRASHED, 101)]


def test_a_crash_fails_what_is_in_flight_and_no_waiting_one_gets_the_slot_2_1() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    first, second = bench.ask(20, "a"), bench.ask(20, "a")
    assert bench.scheduler.crash(21, "sha256-a") == [first, second]
    bench.scheduler.finish(21, first)
    bench.scheduler.finish(21, second)
    assert bench.ps(21)["a"].expires_at == 321
    assert second not in bench.started


def test_out_of_memory_condemns_all_and_they_leave_in_steps_14() -> None:
    bench = Bench(Host(memory=100 * GIB))
    for index, name in enumerate("abc"):
        bench.loaded(20.0 * index, name)
    busy = bench.ask(100, "b")
    before = bench.ps(100)["a"].expires_at
    assert bench.scheduler.out_of_memory(101, "sha256-b") == [busy]
    bench.scheduler.finish(101, busy)
    assert bench.ps(101)["c"].expires_at > before
    bench.until(130)
    unloads = bench.unloads()
    assert {reason for _, reason, _ in unloads} == {TrueReason.OUT_OF_MEMORY}
    assert [at for _, _, at in unloads] == [101, 106, 111]


def test_a_load_out_of_memory_evicts_all_others_and_retries_once_2_1() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a")
    bench.loaded(20, "b")
    bench.scheduler.failing_loads.append(TrueReason.OUT_OF_MEMORY)
    number = bench.ask(40, "c", num_ctx=4096)
    bench.until(100)
    assert [(name, reason) for name, reason, _ in bench.unloads()] == [
        ("a", TrueReason.EVICTED),
        ("b", TrueReason.EVICTED),
    ]
    assert bench.granted[number] == 45 + 5 + bench.host.convergence + LOAD


def test_a_load_out_of_memory_lowers_the_automatic_context_2_1() -> None:
    bench = Bench()
    bench.scheduler.failing_loads.append(TrueReason.OUT_OF_MEMORY)
    bench.ask(0, "a")
    assert bench.ps(20)["a"].context == 4096


def test_a_load_that_fails_twice_or_alone_fails_its_request_2_1() -> None:
    bench = Bench()
    bench.scheduler.failing_loads.extend([TrueReason.OUT_OF_MEMORY, TrueReason.OUT_OF_MEMORY])
    twice = bench.ask(0, "a")
    bench.until(20)
    bench.scheduler.failing_loads.append(TrueReason.OUT_OF_MEMORY)
    alone = bench.ask(20, "a", num_ctx=4096)
    bench.until(40)
    bench.scheduler.failing_loads.append(TrueReason.CRASHED)
    broken = bench.ask(40, "a")
    bench.until(60)
    assert [bench.refused[number].status for number in (twice, alone, broken)] == [500] * 3
    assert "out of memory" in bench.refused[twice].error
    assert "terminated" in bench.refused[broken].error
    assert bench.ps(60) == {}


@pytest.mark.parametrize("generation", ["new", "old"])
def test_a_client_that_leaves_during_its_load_kills_the_load_4_3(generation: str) -> None:
    bench = Bench(Host(generation=generation))  # type: ignore[arg-type]  # parametrised
    number = bench.ask(0, "a")
    bench.scheduler.leave(5, number)
    assert bench.ps(30) == {}
    again = bench.ask(30, "a")
    bench.until(50)
    assert bench.granted == {again: 40}


def test_one_that_left_while_queued_is_skipped_4_3() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.ask(0, "a")
    gone, last = bench.ask(1, "b"), bench.ask(2, "c")
    bench.scheduler.leave(3, gone)
    bench.until(30)
    assert bench.granted[last] == 20
    assert gone not in bench.granted


def test_one_that_left_while_room_was_made_has_cost_the_victim_4_3() -> None:
    bench = Bench(Host(max_loaded=1))
    bench.loaded(0, "a")
    busy = bench.ask(12, "a")
    gone = bench.ask(13, "b")
    bench.scheduler.leave(14, gone)
    bench.scheduler.finish(20, busy)
    assert bench.ps(60) == {}
    assert bench.unloads() == [("a", TrueReason.EVICTED, 20)]
    assert gone not in bench.granted


def test_a_client_that_leaves_in_mid_answer_renews_the_deadline_4_3() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    number = bench.ask(20, "a")
    bench.scheduler.leave(25, number)
    assert bench.ps(25)["a"].expires_at == 325


# -- the two loops ------------------------------------------------------------------------------


def test_an_end_during_the_memory_wait_is_handled_late_14() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a")
    bench.loaded(20, "b")
    number = bench.ask(40, "b")
    bench.scheduler.stop(41, "sha256-a")
    bench.scheduler.finish(42, number)
    assert bench.ps(45)["b"].expires_at == 330  # still the old one
    assert bench.ps(46)["b"].expires_at == 46 + 300


def test_an_expiry_during_the_memory_wait_trails_its_deadline_14() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a", keep_alive=32)
    bench.loaded(20, "b")
    bench.scheduler.stop(40, "sha256-b")
    assert bench.ps(44)["a"].expires_at == 42
    assert bench.ps(45) == {}
    assert bench.unloads()[-1] == ("a", TrueReason.EXPIRED, 45)


def test_the_expiry_race_removes_right_after_the_request_that_came_too_late_2_1() -> None:
    bench = Bench(Host(memory=100 * GIB))
    bench.loaded(0, "a", keep_alive=32)
    bench.loaded(20, "b")
    bench.scheduler.stop(40, "sha256-b")
    number = bench.ask(43, "a", keep_alive=1000)  # its timer fired at 42, unhandled yet
    assert "a" in bench.ps(60)
    bench.scheduler.finish(60, number)
    assert bench.ps(60) == {}
    assert bench.unloads()[-1] == ("a", TrueReason.EXPIRED, 60)


def test_a_renewed_victim_holds_up_every_load_until_it_really_expires_2_4() -> None:
    bench = Bench(Host(max_loaded=1, keep_alive=300))
    bench.loaded(0, "a")
    first = bench.ask(12, "a")
    stuck = bench.ask(13, "b")
    second = bench.ask(14, "a", keep_alive=100)
    bench.scheduler.finish(15, first)
    bench.scheduler.finish(16, second)
    assert "a" in bench.ps(100)
    assert stuck not in bench.granted
    bench.until(140)
    assert bench.unloads() == [("a", TrueReason.EXPIRED, 116)]
    assert bench.granted[stuck] == 116 + bench.host.convergence + LOAD


def test_a_stop_releases_the_stuck_scheduler_14() -> None:
    bench = Bench(Host(max_loaded=1))
    bench.loaded(0, "a")
    first = bench.ask(12, "a")
    stuck = bench.ask(13, "b")
    second = bench.ask(14, "a", keep_alive=100)
    bench.scheduler.finish(15, first)
    bench.scheduler.finish(16, second)
    bench.scheduler.stop(20, "sha256-a")
    bench.until(60)
    assert bench.granted[stuck] == 20 + bench.host.convergence + LOAD


def test_any_unload_makes_the_pending_loop_look_again_2_4() -> None:
    files = {"small": model_file("small", 512 * MIB), "mid": model_file("mid", 5 * GIB)}
    bench = Bench(Host(memory=10 * GIB), files)
    bench.loaded(0, "a", keep_alive=30)  # idle until 40, 4.2 GiB
    bench.loaded(20, "small", keep_alive=5)
    bench.ask(31, "small")  # busy, shortest keep-alive: never mind, an idle one goes first
    newcomer = bench.ask(33, "mid")
    bench.until(60)
    assert bench.unloads() == [("a", TrueReason.EVICTED, 33)]
    assert bench.granted[newcomer] == 33 + 5 + LOAD


def test_the_end_of_the_server_ends_its_runners_2_1() -> None:
    bench = Bench()
    bench.loaded(0, "a")
    bench.ask(12, "b")
    bench.scheduler.shut_down(15, "SIGTERM")
    assert bench.unloads() == [("a", TrueReason.SERVER_RESTARTED, 15)]


def test_the_automatic_context_follows_gpu_memory_4_2() -> None:
    assert Host(memory=8 * GIB).automatic_context == 4096
    assert Host(memory=24 * GIB).automatic_context == 32768
    assert Host(memory=80 * GIB).automatic_context == 262_144
    assert Host(gpu=False).automatic_context == 4096
    assert replace(Host(), context=2048).automatic_context == 2048


def test_the_automatic_context_goes_down_in_the_servers_steps_2_1() -> None:
    steps = [next_lower_context(tokens) for tokens in (262_144, 32768, 4096)]
    assert steps == [32768, 4096, None]
