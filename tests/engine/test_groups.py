"""The groups of layers that the alternating solver updates in turn."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepcli.engine import Dynamics, make_solver
from hepcli.settings import RelaxationSettings, flow_levels

few = settings(derandomize=True, max_examples=200, deadline=None, database=None)
LAYERS = ("l1", "l2", "l3", "l4", "l5", "out")


def groups_of(solver, layers, edges):
    return make_solver(RelaxationSettings(solver)).groups(Dynamics(layers, tuple(edges), lambda u, own: u))


@st.composite
def graphs(draw):
    layers = LAYERS[: draw(st.integers(1, 6))]
    ends = st.sampled_from(layers)
    return layers, tuple(draw(st.lists(st.tuples(ends, ends), max_size=9, unique=True)))


@few
@given(graphs())
def test_every_edge_leads_from_a_group_to_the_next_or_without_cycles_to_a_later_one(graph):
    layers, edges = graph
    groups = groups_of("alternating", layers, edges)
    assert sorted(name for members in groups for name in members) == sorted(layers)
    assert all(groups)
    number = {name: index for index, members in enumerate(groups) for name in members}
    acyclic = flow_levels(layers, edges) is not None
    for pre, post in edges:
        assert number[post] > number[pre] if acyclic else number[post] == (number[pre] + 1) % len(groups)


@few
@given(graphs())
def test_synchronous_is_one_group(graph):
    assert groups_of("synchronous", *graph) == (graph[0],)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ("l1-l2 l2-l1 l2-out out-l2", [{"l1", "out"}, {"l2"}]),
        ("l1-l2 l2-out out-l1", [{"l1"}, {"l2"}, {"out"}]),
        ("l1-l2 l2-out", [{"l1"}, {"l2"}, {"out"}]),
        ("out-l2 l2-l1", [{"out"}, {"l2"}, {"l1"}]),
        ("l1-l2 l2-l1 l2-out out-l2 l2-l2", [{"l1", "l2", "out"}]),
        ("l1-l2 l2-out l1-out", [{"l1"}, {"l2"}, {"out"}]),
        ("l1-l2 l2-l1", [{"l1", "out"}, {"l2"}]),
        ("", [{"l1", "l2", "out"}]),
    ],
    ids=["reciprocal", "loop", "chain", "chain listed backwards", "lateral", "skip", "out alone", "no edges"],
)
def test_known_graphs(edges, expected):
    edges = [tuple(edge.split("-")) for edge in edges.split()]
    found = [set(members) for members in groups_of("alternating", ("l1", "l2", "out"), edges)]
    turns = [found[k:] + found[:k] for k in range(len(found))]
    assert expected in turns
