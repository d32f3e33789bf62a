"""The table of networks."""

import subprocess
import sys

import pytest
from flax import linen as nn

from m3sr_jax.models import create
from m3sr_jax.networks import NETWORKS, load, network_of

WITH_RELEASE = [name for name, network in NETWORKS.items() if network.layout]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_reference_of_an_entry_leads_somewhere(name):
    network = NETWORKS[name]
    assert network_of(create(name)) is network
    for reference in filter(None, (network.layout, network.costs, network.release_fields)):
        assert callable(load(reference))
    assert network.grid == create(name).MULTIPLE
    assert {"num_bands", "dtype", "param_dtype"} <= network.fields


def test_networks_of_papers_have_a_release_and_all_have_costs():
    ours = {name: network for name, network in NETWORKS.items() if name != "toy"}  # which other tests add
    assert [name for name, network in ours.items() if network.layout is None] == ["pixel", "regression"]
    assert all(network.costs for network in ours.values())


@pytest.mark.parametrize("name", WITH_RELEASE)
def test_a_signature_belongs_to_one_release_alone(name):
    owners = []
    for other in WITH_RELEASE:
        keys = {tensor.key for tensor in load(NETWORKS[other].layout)(create(other))}
        owners += [other] * (NETWORKS[name].signature in keys)
    assert owners == [name]


def test_a_module_of_no_entry_has_no_network():
    assert network_of(nn.Dense(3)) is None


def test_reading_the_names_imports_no_jax():
    program = "import sys, m3sr_jax.networks, m3sr_jax.config; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
