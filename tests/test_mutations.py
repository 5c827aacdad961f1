"""Faults of one line each (tests/mutations): all still fit the code, and the tests notice each."""

import ast
import dataclasses
import multiprocessing

import pytest

from rlbench.agents import AGENTS
from tests.mutations.catalogue import ALL
from tests.mutations.mutation import ROOT, Mutation
from tests.mutations.running import outcomes

FORKS = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)


def test_every_mutation_still_fits_its_file() -> None:
    misfits = [told for mutation in ALL if (told := misfit(mutation))]
    assert not misfits, "\n".join(misfits)


def misfit(mutation: Mutation) -> str:
    """What is wrong with a mutation, in a sentence; empty if nothing is."""
    try:
        ast.parse(mutation.applied(ROOT))
    except (ValueError, SyntaxError) as error:
        return str(error)
    files = [ROOT / test.partition("::")[0] for test in mutation.tests]
    return "".join(f"{mutation.name}: there is no {x}" for x in files if not x.exists())


def test_names_are_unique_and_every_agent_has_mutations() -> None:
    assert len({mutation.name for mutation in ALL}) == len(ALL)
    files = {mutation.file for mutation in ALL}
    agents = {file.name for file in (ROOT / "agents").glob("[!_]*.py")}
    assert len(AGENTS) >= len(agents)
    assert {f"agents/{name}" for name in agents} <= files


@FORKS
@pytest.mark.slow
def test_what_no_test_can_see_survives_and_what_cannot_be_run_is_no_result() -> None:
    first = ALL[0]
    unseen = dataclasses.replace(first, file="tests/__init__.py", old="The tests", new="All tests")
    ((_, noticed, _),) = outcomes([unseen])
    assert not noticed
    with pytest.raises(RuntimeError, match="the tests give"):
        list(outcomes([dataclasses.replace(first, new="(")]))


@FORKS
@pytest.mark.slow
def test_no_mutation_survives() -> None:
    survivors = [mutation.name for mutation, noticed, _ in outcomes(ALL) if not noticed]
    assert not survivors, "\n".join(survivors)
