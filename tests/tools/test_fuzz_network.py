"""What the fuzzer of the network sends is seeded, and what it takes for a fault is one."""

from __future__ import annotations

import random

import pytest

from tools.fuzz_network import _grown
from tools.fuzzing.answers import NOT_A_NUMBER, Answer, Fault, check_answer, read_answers
from tools.fuzzing.box import Held
from tools.fuzzing.grpc_calls import GrpcCalls
from tools.fuzzing.http_requests import HttpRequests, Sent, changed
from tools.fuzzing.http_side import Tally, _checked

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def test_the_same_seed_sends_the_same():
    first, second = (HttpRequests(random.Random(3), "r", "t") for _ in range(2))
    made = [first.next() for _ in range(200)]
    assert made == [second.next() for _ in range(200)]
    assert sum(each.is_right for each in made) > 10
    calls, again = (GrpcCalls(random.Random(3), "r", "t") for _ in range(2))
    assert [calls.next() for _ in range(100)] == [again.next() for _ in range(100)]


def test_a_changed_tree_is_another_one_and_the_first_stays():
    draw, tree = random.Random(1), {"a": [1, {"b": "c"}], "d": None}
    assert sum(changed(draw, tree) != tree for _ in range(50)) > 40
    assert tree == {"a": [1, {"b": "c"}], "d": None}


def test_answers_are_split_where_they_end():
    read = read_answers(OK + OK + OK[:-1])
    assert [answer.status for answer in read.answers] == [200, 200]
    assert read.rest == OK[:-1]


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (500, b'{"error":"internal error"}', "status 500"),
        (418, b'{"error":"no"}', "status 418"),
        (400, b"oops", "without JSON"),
        (400, b'{"message":"x"}', "without an error"),
        (500, b'{"error":"output %s"}' % NOT_A_NUMBER.encode(), ""),
        (503, b'{"ready":false}', ""),
        (404, b'{"error":"x"}', ""),
    ],
)
def test_only_what_is_defined_is_no_fault(status, body, fault):
    answer = Answer(status, body, is_last=False)
    if not fault:
        check_answer(answer)
        return
    with pytest.raises(Fault, match=fault):
        check_answer(answer)


def test_a_right_request_that_is_refused_and_a_torn_answer_are_faults():
    refused = b'HTTP/1.1 400 Bad Request\r\ncontent-length: 13\r\n\r\n{"error":"x"}'
    assert _checked(Sent(b""), refused, is_closed=True)
    with pytest.raises(Fault, match="a right request got"):
        _checked(Sent(b"", is_right=True), refused, is_closed=True)
    with pytest.raises(Fault, match="no whole answer"):
        _checked(Sent(b""), OK[:-1], is_closed=True)
    with pytest.raises(Fault, match="no answer"):
        _checked(Sent(b""), b"", is_closed=False)
    assert Tally().faults == []


def test_growth_beyond_the_bounds_is_a_fault():
    before = Held(100 << 20, 30, 20)
    assert _grown(before, Held(120 << 20, 33, 30)) == []
    assert len(_grown(before, Held(300 << 20, 60, 90))) == 3
