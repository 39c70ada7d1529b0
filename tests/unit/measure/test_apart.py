"""
Probes in a process of their own: what hangs, crashes or raises costs its own answer only.
"""

from __future__ import annotations

import os
import sys
import time

import pytest

from pytest_kernelperf.measure.apart import Probe, ask_apart
from pytest_kernelperf.model import Answer


def find(device):
    return {"device": device, "process": os.getpid()}


def hang(device):
    time.sleep(60)


def crash(device):
    os.abort()


def leave(device):
    sys.exit(3)


def stumble(device):
    raise RuntimeError("no card\nand a long trace")


def talk(device):
    print("noise")
    os.write(2, b"noise")
    return {}


def ask(*functions, limit_s=20.0):
    probes = [
        Probe(each.__name__, each, limit_s=1.0 if each is hang else limit_s) for each in functions
    ]
    return ask_apart(probes, 2, progress=lambda name: None)


def test_a_probe_is_asked_in_another_process():
    facts = ask(find)["find"].facts

    assert 2 == facts["device"]
    assert os.getpid() != facts["process"]


def test_what_a_probe_raises_is_its_answer_in_one_line():
    assert Answer(failure="RuntimeError: no card") == ask(stumble)["stumble"]


@pytest.mark.parametrize(
    ("function", "failure"),
    [
        (crash, "its process ended with signal 6"),
        (leave, "its process ended with exit status 3"),
    ],
)
def test_a_crash_costs_one_answer(function, failure):
    answers = ask(find, function, stumble)

    assert failure == answers[function.__name__].failure
    assert answers["find"].facts
    assert "RuntimeError: no card" == answers["stumble"].failure


def test_a_probe_that_hangs_is_given_up():
    began = time.perf_counter()

    # The time-out of the first probe has the start of its process in it.
    answers = ask(find, hang, stumble)

    assert "no answer within 1 s" == answers["hang"].failure
    assert "RuntimeError: no card" == answers["stumble"].failure
    assert time.perf_counter() - began < 30


def test_probes_are_silent(capfd):
    ask(talk)

    assert ("", "") == capfd.readouterr()


def test_progress_names_what_is_waited_for():
    seen = []

    ask_apart([Probe("a", find), Probe("b", find)], 0, progress=seen.append)

    assert ["a", "b"] == seen
