"""Which token budget is chosen, with a stand-in for the card."""

import json
from dataclasses import replace

import pytest
import torch

from virnuc_assets.encoders.token_budget import (
    Circumstances,
    Fitted,
    cache_file,
    candidates,
    fit,
    fit_remembered,
    is_out_of_memory,
)
from virnuc_assets.errors import DeviceMemoryError

DEFAULT, LEAST, FREE = 16896, 1024, 80_000


class Card:
    """Holds packs of up to `most` slots, and keeps what it was asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[int] = []

    def __call__(self, budget: int) -> bool:
        self.asked.append(budget)
        return budget <= self.most


def fitted(card: Card, free: int = FREE, before: Fitted | None = None) -> Fitted:
    return fit(DEFAULT, LEAST, free, card, before, "card")


def test_the_default_is_halved_down_to_the_longest_sequence():
    assert list(candidates(DEFAULT, LEAST)) == [16896, 8448, 4224, 2112, 1056]
    assert list(candidates(LEAST, LEAST)) == [1024]


@pytest.mark.parametrize(("most", "expected"), [(20000, 16896), (16895, 8448), (1056, 1056)])
def test_the_largest_that_runs_is_taken_and_nothing_smaller_tried(most, expected):
    card = Card(most)
    assert fitted(card) == Fitted(expected, FREE)
    assert card.asked == [budget for budget in candidates(DEFAULT, LEAST) if budget >= expected]


def test_where_nothing_fits_the_card_and_the_remedy_are_named():
    with pytest.raises(
        DeviceMemoryError, match=r"^card: ran out of memory at a token budget of 1056; set"
    ) as caught:
        fitted(Card(1000))
    assert (caught.value.device, caught.value.token_budget) == ("card", 1056)


@pytest.mark.parametrize(
    ("before", "asked", "expected"),
    [
        # As much memory is free as then: taken as it is.
        (Fitted(16896, FREE), [], Fitted(16896, FREE)),
        (Fitted(8448, FREE - 1), [], Fitted(8448, FREE - 1)),
        # Less: tried, and smaller ones after it.
        (Fitted(8448, FREE + 1), [8448, 4224], Fitted(4224, FREE)),
        # Much more, and it was small for want of memory: measured anew.
        (Fitted(2112, FREE // 2), [16896, 8448, 4224], Fitted(4224, FREE)),
        (Fitted(16896, FREE // 2), [], Fitted(16896, FREE // 2)),
    ],
)
def test_what_was_found_before_is_tried_again_only_where_memory_has_changed(
    before, asked, expected
):
    card = Card(5000)
    assert fitted(card, before=before) == expected
    assert card.asked == asked


@pytest.fixture
def circumstances():
    return Circumstances("card", 2 * FREE, "0" * 64, "float16", "fused", "2.13", DEFAULT)


def test_a_second_start_asks_the_card_nothing(circumstances, tmp_path):
    file = tmp_path / "new" / "token-budgets.json"
    first, second = Card(9000), Card(9000)
    found = fit_remembered(circumstances, LEAST, FREE, first, file)
    assert found == fit_remembered(circumstances, LEAST, FREE, second, file)
    assert found == Fitted(8448, FREE)
    assert second.asked == []


@pytest.mark.parametrize(
    "change",
    [{"card": "other"}, {"weights_digest": "1"}, {"dtype": "fp8"}, {"engine": "plain"}],
)
def test_what_was_found_in_other_circumstances_is_not_used(change, circumstances, tmp_path):
    file = tmp_path / "token-budgets.json"
    fit_remembered(circumstances, LEAST, FREE, Card(9000), file)
    card = Card(20000)
    found = fit_remembered(replace(circumstances, **change), LEAST, FREE, card, file)
    assert found == Fitted(DEFAULT, FREE)
    assert card.asked == [DEFAULT]
    assert len(json.loads(file.read_text())) == 2


def test_a_folder_that_cannot_be_written_is_said_and_done_without(circumstances, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    file = tmp_path / "file" / "token-budgets.json"
    assert fit_remembered(circumstances, LEAST, FREE, Card(9000), file).token_budget == 8448
    assert "will be looked for again at every start" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_damaged_file_is_done_without(content, circumstances, tmp_path):
    file = tmp_path / "token-budgets.json"
    file.write_text(content)
    assert fit_remembered(circumstances, LEAST, FREE, Card(9000), file).token_budget == 8448


@pytest.mark.parametrize("budget", [0, LEAST - 1, DEFAULT + 1])
def test_a_remembered_budget_that_can_not_be_is_done_without(budget, circumstances, tmp_path):
    file = tmp_path / "token-budgets.json"
    fit_remembered(circumstances, LEAST, FREE, Card(9000), file)
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: {"token_budget": budget, "free_bytes": FREE + 1}}))
    assert fit_remembered(circumstances, LEAST, FREE, Card(9000), file).token_budget == 8448


def test_budgets_are_remembered_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "virnuc" / "token-budgets.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file() == tmp_path / ".cache" / "virnuc" / "token-budgets.json"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_errors_that_say_the_memory_is_full(error, expected):
    assert is_out_of_memory(error) == expected
