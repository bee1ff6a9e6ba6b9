"""A cluster is read from its live objects, whatever the chart called things; what cannot work is refused by name."""

from itertools import pairwise
from typing import Any

import pytest

from weaviate_backup.api.resources import CLAIM, POD, STATEFUL_SET, only
from weaviate_backup.core.environment import SecretKey, Sources, claim_names, config_map_names, secret_names
from weaviate_backup.core.selection import select
from weaviate_backup.core.topology import MOST_REPLICAS, ClusterView, view_cluster
from weaviate_backup.errors import InvalidInput, Permanent, Transient

Json = dict[str, Any]


def container(**changes: Any) -> Json:
    environment = [
        {"name": "CLUSTER_GOSSIP_BIND_PORT", "value": "7000"},
        {"name": "CLUSTER_BASIC_AUTH_USERNAME", "valueFrom": {"secretKeyRef": {"name": "auth", "key": "username"}}},
        {"name": "CLUSTER_BASIC_AUTH_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "auth", "key": "password"}}},
    ]
    mounts = [{"name": "weaviate-data", "mountPath": "/var/lib/weaviate"}]
    made: Json = {"name": "weaviate", "args": ["--port", "8081"], "env": environment, "volumeMounts": mounts}
    return made | changes


def view(
    inner: Json,
    *,
    access: str = "ReadWriteOnce",
    replicas: int = 1,
    template: Json | None = None,
    second: Json | None = None,
    **spec: Any,
) -> ClusterView:
    """Of objects as they are kept: whatever is looked at must be."""
    pod_spec: Json = {
        "nodeName": "node-a",
        "containers": [inner],
        "volumes": [{"name": "weaviate-data", "persistentVolumeClaim": {"claimName": "data-0"}}],
    }
    pod = {
        "metadata": {"name": "weaviate-0", "uid": "p", "ownerReferences": [{"uid": "s"}]},
        "spec": pod_spec | spec,
        "status": {"podIP": "10.0.0.1", "containerStatuses": [{"name": inner["name"], "ready": True}]},
    }
    stranger: Json = {"metadata": {"name": "weaviate-1", "uid": "x"}, "spec": {}, "status": {}}
    other = pod | {
        "metadata": pod["metadata"] | {"name": "weaviate-1", "uid": "q"},
        "spec": pod_spec | spec | {"containers": [second]},
    }
    stateful_set = {
        "metadata": {"name": "weaviate", "namespace": "elsewhere", "uid": "s"},
        "spec": {"replicas": replicas, "template": {"spec": pod_spec | {"containers": [template or inner]}}},
    }
    return view_cluster(
        namespace="ns",
        stateful_set=only(stateful_set, STATEFUL_SET),
        pods=[only(each, POD) for each in (pod, stranger if second is None else other)],
        claims={"data-0": only({"spec": {"accessModes": [access]}}, CLAIM)},
        sources=Sources(
            config_maps={"settings": {"name": "db-a"}}, secret_keys={"all": ("CLUSTER_BASIC_AUTH_PASSWORD",)}
        ),
    )


def test_ports_paths_and_secrets_come_from_the_objects() -> None:
    seen = view(container())
    assert seen.namespace == "ns", "where it was looked for, not what an answer says"
    endpoint = seen.endpoint("weaviate-0")
    assert endpoint is not None
    assert (endpoint.host, endpoint.rest_port, endpoint.data_port, endpoint.raft_port) == ("10.0.0.1", 8081, 7001, 8301)
    assert seen.cluster_auth is not None
    assert seen.cluster_auth.password == SecretKey("auth", "password")
    seen.check_agents()
    assert seen.nodes[0].volume is not None
    assert seen.nodes[0].volume.source == {"persistentVolumeClaim": {"claimName": "data-0"}}


@pytest.mark.parametrize(
    ("value", "percentage"), [("85", 85), ("0", 0), ("100", 100), ("101", 90), ("", 90), ("x", 90), ("9" * 5000, 90)]
)
def test_weaviate_says_when_it_makes_shards_read_only(value: str, percentage: int) -> None:
    endpoint = view(container(env=[{"name": "DISK_USE_READONLY_PERCENTAGE", "value": value}])).endpoint("weaviate-0")
    assert endpoint is not None and endpoint.read_only_percentage == percentage


def test_the_last_entry_of_a_name_wins_and_config_maps_are_followed() -> None:
    reference = {"configMapKeyRef": {"name": "settings", "key": "name"}}
    environment = [
        {"name": "CLUSTER_HOSTNAME", "value": "first"},
        {"name": "CLUSTER_HOSTNAME", "valueFrom": reference},
        {"name": "CLUSTER_DATA_BIND_PORT", "value": "7777"},
    ]
    seen = view(container(env=environment))
    assert seen.nodes[0].name == "db-a"
    assert seen.ports.data == 7777
    assert seen.cluster_auth is None


def test_the_container_may_have_another_name_and_its_user_counts_before_the_pods() -> None:
    inner = container(name="db", securityContext={"runAsUser": 1000})
    seen = view(inner, securityContext={"runAsUser": 2000, "fsGroup": 3000})
    assert (seen.nodes[0].security.run_as_user, seen.nodes[0].security.fs_group) == (1000, 3000)


def test_a_secret_whose_keys_all_become_variables_is_followed() -> None:
    seen = view(container(env=[], envFrom=[{"secretRef": {"name": "all"}}]))
    assert seen.cluster_auth is not None
    assert seen.cluster_auth.password == SecretKey("all", "CLUSTER_BASIC_AUTH_PASSWORD")
    assert seen.cluster_auth.username == ""


def test_variables_in_values_and_arguments_stand_for_those_before() -> None:
    environment = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "REST", "value": "9090"},
        {"name": "CLUSTER_HOSTNAME", "value": "$(POD)"},
        {"name": "PERSISTENCE_DATA_PATH", "value": "/var/lib/weaviate/$(REST)"},
    ]
    seen = view(container(env=environment, args=["--port=$(REST)", "--scheme", "https"]))
    assert seen.nodes[0].name == "weaviate-0"
    assert (seen.ports.rest, seen.data_path, seen.scheme) == (9090, "/var/lib/weaviate/9090", "https")
    with pytest.raises(Permanent, match=r"--scheme of container weaviate is '\$\(UNKNOWN\)'"):
        view(container(args=["--scheme", "$(UNKNOWN)"]))


@pytest.mark.parametrize("where", ["env", "args"])
def test_what_a_value_stands_for_is_no_larger_than_a_process_takes(where: str) -> None:
    """Ten times the one before, nine times over: a gigabyte of a few hundred bytes."""
    names = [f"A{number}" for number in range(10)]
    bomb = [{"name": name, "value": f"$({before})" * 10} for before, name in pairwise(names)]
    environment = [{"name": "A0", "value": "x"}, *(bomb if where == "env" else bomb[:5])]
    arguments = [] if where == "env" else ["$(A5)"] * 1000
    with pytest.raises(Permanent, match=r"EnvironmentTooLarge: .* container weaviate have more than 2097152"):
        view(container(env=environment, args=arguments))
    assert view(container(env=environment[:6], args=arguments[:10]))


def test_what_agents_take_over_from_pods_is_no_larger_than_any_pod_needs() -> None:
    toleration = {"key": "k" * 60, "operator": "Equal", "value": "v" * 60, "effect": "NoSchedule"}
    assert view(container(), tolerations=[toleration] * 500).nodes
    with pytest.raises(Permanent, match=r"PodsTooLarge: .* StatefulSet weaviate"):
        view(container(), tolerations=[toleration] * 5000)


def test_running_pods_count_and_not_the_template_that_they_are_to_become() -> None:
    running, ordered = container(), container(args=["--port", "9999"])
    assert view(running, template=ordered).ports.rest == 8081


def test_pods_in_the_middle_of_a_rollout_are_waited_for() -> None:
    with pytest.raises(Transient, match=r"PodsDiffer.*differ in ports"):
        view(container(), second=container(args=["--port", "9999"]), replicas=2)


def test_a_missing_pod_is_named_not_ignored() -> None:
    assert view(container(), replicas=2).absent == ("weaviate-1",)


@pytest.mark.parametrize(
    ("inner", "options", "reason"),
    [
        (container(), {"access": "ReadWriteOncePod"}, "ReadWriteOncePodUnsupported"),
        (container(volumeMounts=[]), {}, "DataVolumeNotFound"),
        (container(), {"volumes": [{"name": "weaviate-data", "emptyDir": {}}]}, "DataVolumeNotShareable"),
        (container(env=[{"name": "PERSISTENCE_DATA_PATH", "value": "./data"}]), {}, "DataPathRelative"),
    ],
)
def test_what_cannot_work_is_refused_by_name(inner: Json, options: Json, reason: str) -> None:
    with pytest.raises(Permanent) as refused:
        view(inner, **options).check_agents()
    assert refused.value.reason == reason


@pytest.mark.parametrize(("inner", "access"), [(container(), "ReadWriteOncePod"), (container(volumeMounts=[]), "")])
def test_a_volume_that_no_agent_can_share_is_no_reason_against_method_server(inner: Json, access: str) -> None:
    seen = view(inner, access=access)
    assert seen.nodes[0].volume is None
    with pytest.raises(Permanent, match="or use method: Server"):
        seen.check_agents()


def test_a_cluster_scaled_to_nothing_may_come_back() -> None:
    with pytest.raises(Transient):
        view(container(), replicas=0)


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), ("Article", "Author", "Book")),
        (("A*",), (), ("Article", "Author")),
        (("article", "Boo?"), (), ("Article", "Book")),
        ((), ("Au*",), ("Article", "Book")),
    ],
)
def test_selection(include: tuple[str, ...], exclude: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    assert select(("Author", "Article", "Book"), include=include, exclude=exclude) == chosen


@pytest.mark.parametrize("pattern", ["[AB]*", "Missing", "Article.*"])
def test_only_star_and_question_mark_are_special(pattern: str) -> None:
    with pytest.raises(Permanent, match="CollectionNotFound"):
        select(("Article", "Book"), include=(pattern,), exclude=())


NO_NAMES = ["../../victim/secrets/prod-db", "..", ".", "", "a/b", "a%2fb", "a\\b", "A", "a\x00", "a\n", "a" * 254]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_a_reference_to_what_no_object_can_be_is_refused_with_its_place(name: str) -> None:
    """The API server takes most of them in a pod's template."""
    for source in ("secretKeyRef", "configMapKeyRef"):
        entry = {"name": "CLUSTER_BASIC_AUTH_USERNAME", "valueFrom": {source: {"name": name, "key": "password"}}}
        spec: Json = {"containers": [container(env=[entry])]}
        with pytest.raises(InvalidInput, match="env CLUSTER_BASIC_AUTH_USERNAME of Weaviate's container"):
            config_map_names(spec) if source == "configMapKeyRef" else view(container(env=[entry]))
    for source, names in (("secretRef", secret_names), ("configMapRef", config_map_names)):
        with pytest.raises(InvalidInput, match=f"envFrom.{source}"):
            names({"containers": [container(envFrom=[{source: {"name": name}}])]})
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
    with pytest.raises(InvalidInput, match="volume data"):
        claim_names([{"spec": {"volumes": [claim]}}])


def test_a_reference_to_a_key_that_none_can_be_is_refused() -> None:
    entry = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "auth", "key": "../tls.key"}}}
    with pytest.raises(InvalidInput, match=r"'auth/\.\./tls\.key'"):
        view(container(env=[entry]))


@pytest.mark.parametrize("name", ["../weaviate-0", "a/b", "_store-0", ".", "a b", "%2e", "a\x00", "a" * 64], ids=ascii)
def test_a_node_s_name_is_a_word(name: str) -> None:
    """It becomes a folder of the backup and a key of a Secret; `_store-0` is a worker of ours."""
    with pytest.raises(InvalidInput, match="CLUSTER_HOSTNAME of pod weaviate-0"):
        view(container(env=[{"name": "CLUSTER_HOSTNAME", "value": name}]))


@pytest.mark.parametrize("name", ["ca", "store-0", "Node_1.local"])
def test_any_word_may_be_a_node_s_name(name: str) -> None:
    assert view(container(env=[{"name": "CLUSTER_HOSTNAME", "value": name}])).nodes[0].name == name


def test_ports_are_those_of_the_arguments_then_of_the_probe_then_the_usual() -> None:
    probe = {"httpGet": {"port": 8090}}
    assert view(container(readinessProbe=probe)).ports.rest == 8081
    assert view(container(args=[], readinessProbe=probe)).ports.rest == 8090
    assert view(container(args=[], readinessProbe={"httpGet": {"port": "http"}})).ports.rest == 8080
    usual = view(container(args=[], env=[])).ports
    assert (usual.rest, usual.data, usual.raft) == (8080, 7947, 8301)
    other = view(container(env=[{"name": "RAFT_INTERNAL_RPC_PORT", "value": "9301"}])).ports
    assert other.raft == 9301


@pytest.mark.parametrize(
    ("value", "anonymous"), [("true", True), ("1", True), ("On", True), ("false", False), ("", False), ("yes", False)]
)
def test_who_needs_no_key_is_known_as_the_server_reads_it(value: str, anonymous: bool) -> None:
    seen = view(container(env=[{"name": "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED", "value": value}]))
    assert seen.anonymous is anonymous
    assert view(container(env=[])).anonymous is False


def test_a_key_to_the_server_is_known_by_its_secret_only() -> None:
    name = "AUTHENTICATION_APIKEY_ALLOWED_KEYS"
    secret = {"name": name, "valueFrom": {"secretKeyRef": {"name": "auth", "key": "keys"}}}
    assert view(container(env=[secret])).api_key == SecretKey("auth", "keys")
    assert view(container(env=[{"name": name, "value": "in the open"}])).api_key is None


def test_the_deepest_mount_holds_the_data_and_all_are_known() -> None:
    mounts = [
        {"name": "outer", "mountPath": "/var"},
        {"name": "inner", "mountPath": "/var/lib/", "subPath": "weaviate"},
        {"name": "beside", "mountPath": "/var/lib/weav"},
        {"name": "projected", "mountPath": "/var/run"},
    ]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("outer", "inner", "beside")]
    seen = view(container(volumeMounts=mounts), volumes=volumes)
    volume = seen.nodes[0].volume
    assert volume is not None
    assert (volume.source, volume.mount_path, volume.sub_path) == (
        {"persistentVolumeClaim": {"claimName": "inner"}},
        "/var/lib/",
        "weaviate",
    )
    assert [each.mount_path for each in seen.mounts] == ["/var", "/var/lib/", "/var/lib/weav"]


def test_what_a_pod_asks_of_its_place_agents_ask_too() -> None:
    toleration = {"key": "dedicated", "operator": "Exists"}
    outer = {
        "runAsUser": 1,
        "runAsGroup": 2,
        "fsGroup": 3,
        "supplementalGroups": [4],
        "seLinuxOptions": {"level": "s0"},
    }
    seen = view(
        container(securityContext={"runAsGroup": 5, "seLinuxOptions": {"level": "s1"}}),
        securityContext=outer,
        tolerations=[toleration],
        imagePullSecrets=[{"name": "registry"}],
        priorityClassName="high",
    ).nodes[0]
    security = seen.security
    assert (security.run_as_user, security.run_as_group, security.fs_group) == (1, 5, 3)
    assert (security.supplemental_groups, security.se_linux_options) == ((4,), {"level": "s1"})
    assert (seen.tolerations, seen.image_pull_secrets, seen.priority_class) == ((toleration,), ("registry",), "high")


def test_nodes_of_one_name_are_no_cluster() -> None:
    named = container(env=[{"name": "CLUSTER_HOSTNAME", "value": "same"}])
    with pytest.raises(Permanent, match="NodeNamesNotUnique"):
        view(named, second=named, replicas=2)


def test_more_pods_than_are_read_are_refused() -> None:
    with pytest.raises(Permanent, match=f"TooManyReplicas: .*{MOST_REPLICAS + 1} replicas"):
        view(container(), replicas=MOST_REPLICAS + 1)
    assert len(view(container(), replicas=MOST_REPLICAS).absent) == MOST_REPLICAS - 1
