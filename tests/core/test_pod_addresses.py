"""What is put together to the URL of a pod is nothing else than scheme, address and port."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_topology import container, view
from yarl import URL

from weaviate_backup.core.pod_addresses import pod_address, port_of, scheme_of
from weaviate_backup.core.topology import MOST_REPLICAS
from weaviate_backup.errors import Permanent

ELSEWHERE = "http://169.254.169.254/latest/meta-data/iam/security-credentials/role#"


@settings(deadline=None)
@given(st.one_of(st.text(), st.sampled_from([ELSEWHERE, "HTTP", "http:", "ftp", "file", "https ", "http\n"])))
def test_a_scheme_is_http_or_https(argument: str) -> None:
    try:
        found = scheme_of(argument, "weaviate")
    except Permanent as error:
        assert error.reason == "SchemeUnknown"
        assert error.message.isprintable()
    else:
        assert found == (argument or "http") and found in ("http", "https")


@settings(deadline=None)
@given(
    st.one_of(st.text(), st.integers().map(str), st.sampled_from(["80@elsewhere", "1/..", "٨٠", "0", "65536", "-1"]))
)
def test_a_port_is_a_number_of_a_port(text: str) -> None:
    try:
        found = port_of(text, "--port")
    except Permanent as error:
        assert error.reason == "PortInvalid"
    else:
        assert 1 <= found <= 65535
        assert URL(f"http://10.0.0.1:{found}").host == "10.0.0.1"


@pytest.mark.parametrize(
    ("found", "taken"),
    [("10.0.0.1", "10.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("fd00:0::1", "fd00::1")],
)
def test_an_address_is_one_of_a_pod(found: str, taken: str) -> None:
    assert pod_address({"metadata": {"name": "p"}, "status": {"podIP": found}}) == taken


@pytest.mark.parametrize(
    "found",
    (
        *("", "weaviate.example.com", "10.0.0.1:80", "10.0.0.1/x", "[::1]", "010.0.0.1"),
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00::1%a", "0.0.0.0", "::", "224.0.0.1"),
    ),
)
def test_anything_else_is_none(found: str) -> None:
    with pytest.raises(Permanent, match="PodAddressInvalid"):
        pod_address({"metadata": {"name": "p"}, "status": {"podIP": found}})


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["--scheme", ELSEWHERE], {}, "SchemeUnknown"),
        ([f"--scheme={ELSEWHERE}"], {}, "SchemeUnknown"),
        (["--port", "8080@169.254.169.254"], {}, "PortInvalid"),
        (["--port", "0"], {}, "PortInvalid"),
        ([], {"CLUSTER_DATA_BIND_PORT": "70010"}, "PortInvalid"),
        ([], {"CLUSTER_GOSSIP_BIND_PORT": "65536"}, "PortInvalid"),
        ([], {"CLUSTER_GOSSIP_BIND_PORT": "65535"}, "PortInvalid"),
        ([], {"RAFT_INTERNAL_RPC_PORT": "9" * 5000}, "PortInvalid"),
    ],
)
def test_a_stateful_set_cannot_name_another_server(
    arguments: list[str], environment: dict[str, str], reason: str
) -> None:
    given = [{"name": name, "value": value} for name, value in environment.items()]
    with pytest.raises(Permanent) as refused:
        view(container(args=arguments, env=[*container()["env"], *given]))
    assert refused.value.reason == reason


def test_replicas_beyond_reason_are_not_counted_one_by_one() -> None:
    with pytest.raises(Permanent, match=f"2147483647 replicas; at most {MOST_REPLICAS}"):
        view(container(), replicas=2**31 - 1)
