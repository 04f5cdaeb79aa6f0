"""cloud-init data for guestinfo: what the guest reads back, and the 64 KiB limit."""

import json
import random
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vcenter.cloud_init import LIMIT_BYTES, CloudInit, cleared, decoded, encoded
from vcenter.errors import InvalidRequest, TooLarge


@given(st.text(max_size=2000))
def test_what_goes_in_comes_out(text: str) -> None:
    assert decoded(*encoded("guestinfo.userdata", text)) == text


def test_only_what_needs_it_is_compressed() -> None:
    fits = "a" * (LIMIT_BYTES * 3 // 4)
    value, encoding = encoded("guestinfo.userdata", fits)
    assert (encoding, len(value)) == ("base64", LIMIT_BYTES)
    value, encoding = encoded("guestinfo.userdata", fits + "a")
    assert encoding == "gzip+base64"
    assert decoded(value, encoding) == fits + "a"


def test_what_does_not_fit_even_compressed_is_refused() -> None:
    noise = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=90_000))
    with pytest.raises(TooLarge, match="65536"):
        encoded("guestinfo.userdata", noise)


def test_the_guest_gets_name_network_and_key() -> None:
    init = CloudInit(
        host_name="gpu-1",
        instance_id="run-7",
        user_data={"packages": ["rdma-core"]},
        network={"ethernets": {"ens192": {"dhcp4": True}}},
        ssh_keys=("ssh-ed25519 AAAA admin",),
    )
    options = init.options()
    assert sorted(options) == [
        "guestinfo.metadata",
        "guestinfo.metadata.encoding",
        "guestinfo.userdata",
        "guestinfo.userdata.encoding",
    ]
    metadata = json.loads(decoded(options["guestinfo.metadata"], options["guestinfo.metadata.encoding"]))
    assert (metadata["local-hostname"], metadata["instance-id"]) == ("gpu-1", "run-7")
    network = yaml.safe_load(decoded(metadata["network"], metadata["network.encoding"]))
    assert network == {"version": 2, "ethernets": {"ens192": {"dhcp4": True}}}
    user_data = decoded(options["guestinfo.userdata"], options["guestinfo.userdata.encoding"])
    assert user_data.startswith("#cloud-config\n")
    config = yaml.safe_load(user_data)
    assert config["packages"] == ["rdma-core"]
    assert config["users"][0] == "default"
    assert config["users"][1]["ssh_authorized_keys"] == ["ssh-ed25519 AAAA admin"]


def test_a_finished_document_is_taken_as_it_is() -> None:
    init = CloudInit("h", "i", user_data="#!/bin/sh\necho hello\n")
    options = init.options()
    assert decoded(options["guestinfo.userdata"], "base64") == "#!/bin/sh\necho hello\n"
    with pytest.raises(InvalidRequest):
        CloudInit("h", "i", user_data="#!/bin/sh\n", ssh_keys=("k",)).options()


def test_clearing_empties_every_key_that_was_set() -> None:
    options = CloudInit("h", "i", user_data={"a": 1}).options()
    assert set(options) <= set(cleared())
    assert set(cleared().values()) == {""}
