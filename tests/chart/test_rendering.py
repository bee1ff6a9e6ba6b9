"""What the chart makes of its values, and which values it refuses."""

import json
from typing import Any

import pytest
import yaml
from tests.chart.rendering import CHART, FULL_NAME, NAMESPACE, OUR_KINDS, Json, helm, of_kind, render, the
from tests.chart.weaviate_values import IGNORED

from weaviate_backup.api.crd import definitions
from weaviate_backup.controller.agent_pods import Owner
from weaviate_backup.core.session import AGENT_PORT
from weaviate_backup.settings import OperatorSettings

VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text())
CONFINED: Json = {"enabled": True, "apiServer": {"cidrs": ["10.0.0.1/32"]}}
OWNER = Owner(kind="WeaviateBackup", name="b", namespace="a", uid="0")
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())


def operator(values: Json | None = None) -> Json:
    container: Json = the(render(values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return container


def environment(values: Json | None = None) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in operator(values)["env"]}


def test_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


def test_definitions_are_those_of_the_models_and_outlive_the_release() -> None:
    rendered = {crd["metadata"]["name"]: crd for crd in of_kind(render(), "CustomResourceDefinition")}
    assert {name: crd["spec"] for name, crd in rendered.items()} == {
        name: crd["spec"] for name, crd in definitions().items()
    }
    for crd in rendered.values():
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_definitions_can_be_left_out_or_let_go() -> None:
    assert of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == []
    for crd in of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert not crd["metadata"].get("annotations")


def test_one_operator_at_a_time_of_the_first_user_that_is_not_root() -> None:
    deployment = the(render(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (65532, True)
    container = pod["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]


def test_the_platform_may_choose_the_user() -> None:
    context = the(render({"operator": {"runAsUser": None}}), "Deployment")["spec"]["template"]["spec"][
        "securityContext"
    ]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_probes_ask_the_health_port() -> None:
    container = operator()
    paths = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/livez", "port": "health"},
        "livenessProbe": {"path": "/livez", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
    }
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"health": 8080, "metrics": 8081}


def test_the_operator_can_read_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"image": {"tag": "7"}, "logLevel": "debug", "trustedStoreHosts": ["minio.storage.svc", "*.example.com"]}
    told = environment({"watchNamespaces": ["a", "b"], "operator": chosen})
    for name, value in {**told, "WVB_NAMESPACE": NAMESPACE}.items():
        monkeypatch.setenv(name, value)
    settings = OperatorSettings()
    included = {
        "namespace", "agent_image", "watch_namespaces", "health_port", "metrics_port", "trusted_store_hosts"
    }  # fmt: skip
    assert settings.model_dump(include=included) == {
        "namespace": NAMESPACE,
        "agent_image": "weaviate-backup-operator:7",
        "watch_namespaces": "a,b",
        "health_port": 8080,
        "metrics_port": 8081,
        "trusted_store_hosts": "minio.storage.svc,*.example.com",
    }
    known = {f"WVB_{name.upper()}" for name in OperatorSettings.model_fields}
    assert set(told) <= {*known, "MALLOC_MMAP_THRESHOLD_"}, "the last is for the C library"


def test_agents_run_the_operator_s_image_unless_told_otherwise() -> None:
    assert environment()["WVB_AGENT_IMAGE"] == operator()["image"]
    other = {"agent": {"image": {"repository": "agents", "tag": "sha256:" + "0" * 64, "pullPolicy": "Never"}}}
    told = environment(other)
    assert told["WVB_AGENT_IMAGE"] == "agents@sha256:" + "0" * 64
    assert told["WVB_AGENT_IMAGE_PULL_POLICY"] == "Never"


def test_all_namespaces_need_cluster_roles() -> None:
    objects = render()
    assert environment()["WVB_WATCH_NAMESPACES"] == ""
    assert of_kind(objects, "Role") == []
    bound = {binding["roleRef"]["name"] for binding in of_kind(objects, "ClusterRoleBinding")}
    name = f"{NAMESPACE}-{FULL_NAME}"
    assert bound == {f"{name}-{purpose}" for purpose in ("resources", "discovery", "agents", "coordination")}


def test_named_namespaces_need_roles_there_alone() -> None:
    objects = render({"watchNamespaces": ["a", "b"]})
    assert of_kind(objects, "ClusterRoleBinding") == []
    bound = {(role["metadata"]["namespace"], role["roleRef"]["name"]) for role in of_kind(objects, "RoleBinding")}
    purposes = ("resources", "discovery", "agents", "coordination")
    everywhere = {(namespace, f"{FULL_NAME}-{purpose}") for namespace in ("a", "b") for purpose in purposes}
    assert bound == everywhere | {(NAMESPACE, f"{FULL_NAME}-memory")}


def test_the_operator_s_own_namespace_is_not_bound_twice() -> None:
    objects = render({"watchNamespaces": [NAMESPACE]})
    names = [role["metadata"]["name"] for role in of_kind(objects, "Role")]
    assert len(names) == len(set(names)) == 4


def test_no_roles_when_others_make_them() -> None:
    objects = render({"rbac": {"create": False, "aggregateToDefaultRoles": False}})
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        assert of_kind(objects, kind) == []


def test_a_service_account_of_one_s_own() -> None:
    objects = render({"serviceAccount": {"create": False, "name": "mine"}})
    assert of_kind(objects, "ServiceAccount") == []
    assert the(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    subjects = [
        subject["name"] for binding in of_kind(objects, "ClusterRoleBinding") for subject in binding["subjects"]
    ]
    assert set(subjects) == {"mine"}


def policies(values: Json | None = None, **policy: Any) -> dict[tuple[str, str], Json]:
    """By namespace and name."""
    objects = render({"networkPolicy": {**CONFINED, **policy}, **(values or {})})
    return {
        (found["metadata"]["namespace"], found["metadata"]["name"]): found["spec"]
        for found in of_kind(objects, "NetworkPolicy")
    }


def test_network_policies_are_asked_for() -> None:
    assert of_kind(render(), "NetworkPolicy") == []
    agents, weaviate = f"{FULL_NAME}-agents", f"{FULL_NAME}-weaviate"
    assert policies({"watchNamespaces": ["a", "b"]}).keys() == {(NAMESPACE, FULL_NAME), ("a", agents), ("b", agents)}
    assert policies(agentNamespaces=["a"]).keys() == {(NAMESPACE, FULL_NAME), ("a", agents)}
    protected = policies(agentNamespaces=["a"], weaviate={"protect": True})
    assert protected.keys() == {(NAMESPACE, FULL_NAME), ("a", agents), ("a", weaviate)}


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"networkPolicy": {"enabled": True, "agentNamespaces": ["a"]}}, "networkPolicy.apiServer.cidrs is empty"),
        ({"networkPolicy": CONFINED}, "networkPolicy.agentNamespaces is empty"),
        (
            {"networkPolicy": {**CONFINED, "agentNamespaces": ["a"]}, "podMonitor": {"enabled": True}},
            "networkPolicy.metricsFrom is empty",
        ),
    ],
    ids=["no API server", "no agents", "no reader of metrics"],
)
def test_network_policies_that_would_not_apply_are_refused(values: Json, cure: str) -> None:
    done = helm("template", "wvb", CHART, values=values)
    assert done.returncode != 0
    assert cure in done.stderr


def test_agents_hear_only_the_operator() -> None:
    labels = the(render(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    spec = policies(agentNamespaces=["a"])["a", f"{FULL_NAME}-agents"]
    assert spec["podSelector"]["matchLabels"].items() <= OWNER.labels.items()
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert rule["ports"] == [{"port": AGENT_PORT}]


def test_nobody_may_reach_more_than_they_need() -> None:
    """Every rule has a peer; the API server is out of reach of agents, and the REST API, too."""
    found = policies(agentNamespaces=["a"], apiServer={"cidrs": ["10.0.0.1/32", "fd00::1/128"]})
    operator, agents = found[NAMESPACE, FULL_NAME], found["a", f"{FULL_NAME}-agents"]
    assert all(rule.get("to") for spec in (operator, agents) for rule in spec["egress"])
    assert [ports_of(rule) for rule in operator["egress"]] == [{53}, {443, 6443}, {AGENT_PORT}, {8080, 8301}]
    assert [ports_of(rule) for rule in agents["egress"]] == [{53}, {443}, {7001, 8301}]
    blocks = [peer["ipBlock"] for peer in agents["egress"][1]["to"]]
    assert blocks == [
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.1/32"]},
        {"cidr": "::/0", "except": ["fd00::1/128"]},
    ]
    where = operator["egress"][2]["to"][0]["namespaceSelector"]["matchExpressions"]
    assert where == [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}]
    store = {"podSelector": {"matchLabels": {"app": "minio"}}}
    inside = policies(agentNamespaces=["a"], storesTo=[store], storePorts=[9000])["a", f"{FULL_NAME}-agents"]
    assert inside["egress"][1] == {"to": [store], "ports": [{"port": 9000}]}


def test_metrics_are_closed_until_somebody_is_named() -> None:
    closed = policies(agentNamespaces=["a"])[NAMESPACE, FULL_NAME]["ingress"]
    assert [ports_of(rule) for rule in closed] == [{8080}]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    opened = policies(agentNamespaces=["a"], metricsFrom=[peer])[NAMESPACE, FULL_NAME]["ingress"]
    assert opened[1] == {"from": [peer], "ports": [{"port": 8081}]}


def test_weaviate_s_inner_ports_are_for_weaviate_the_operator_and_agents() -> None:
    spec = policies(agentNamespaces=["a"], weaviate={"protect": True})["a", f"{FULL_NAME}-weaviate"]
    assert spec["podSelector"] == {"matchLabels": {"app": "weaviate"}}
    itself, agents, operator, everybody = spec["ingress"]
    assert itself == {"from": [{"podSelector": {"matchLabels": {"app": "weaviate"}}}]}
    assert agents["from"][0]["podSelector"]["matchLabels"].items() <= OWNER.labels.items()
    assert operator["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    assert (ports_of(agents), ports_of(operator)) == ({7001, 8301}, {8080, 8301})
    assert "from" not in everybody
    assert not ports_of(everybody) & {7000, 7001, 8300, 8301}


def ports_of(rule: Json) -> set[int]:
    return {each["port"] for each in rule["ports"]}


def test_a_pod_monitor_where_its_kind_is_known() -> None:
    values = {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}
    assert of_kind(render(values), "PodMonitor") == []
    monitor = the(render(values, api_versions=("monitoring.coreos.com/v1/PodMonitor",)), "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")


def test_everything_of_the_release_is_labelled_and_in_its_place() -> None:
    for made in render({"networkPolicy": {**CONFINED, "agentNamespaces": ["a"]}}):
        assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == "wvb"
        assert "app" not in made["metadata"]["labels"]


def test_notes_name_the_kinds() -> None:
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert all(kind in notes for kind in ("WeaviateBackupLocation", "WeaviateBackup"))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"watchNamespace": ["a"]}, "additional properties 'watchNamespace' not allowed"),
        ({"watchNamespaces": ["A"]}, "does not match pattern"),
        ({"watchNamespaces": "a"}, "want array"),
        ({"crds": {"instal": True}}, "additional properties 'instal' not allowed"),
        ({"operator": {"logLevel": "loud"}}, "must be one of"),
        ({"operator": {"image": {"pullPolicy": "Sometimes"}}}, "must be one of"),
        ({"operator": {"image": {"repository": ""}}}, "minLength"),
        ({"networkPolicy": {"storePorts": [0]}}, "minimum"),
        ({"networkPolicy": {"apiServer": {"cidrs": ["api.example"]}}}, "does not match pattern"),
        ({"admissionPolicy": {"tokenAudiences": ["a'b"]}}, "does not match pattern"),
    ],
)
def test_mistyped_values_are_refused(values: Json, complaint: str) -> None:
    done = helm("template", "wvb", CHART, values=values)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_every_value_has_a_place_in_the_schema() -> None:
    assert unknown_values(VALUES, SCHEMA, "") == []


def test_every_documented_value_is_explained_by_a_default() -> None:
    """What the schema knows can be seen in values.yaml, but for what Helm itself adds and what has no effect."""
    assert set(SCHEMA["properties"]) - {"global", *IGNORED} == set(VALUES)


def unknown_values(values: Any, schema: Json, path: str) -> list[str]:
    """Values outside the schema, and objects of ours that would let a mistyped key pass."""
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    found = [] if schema.get("additionalProperties") is False else [f"{path} is open"]
    for name, value in values.items():
        if name in schema["properties"]:
            found += unknown_values(value, schema["properties"][name], f"{path}.{name}")
        else:
            found.append(f"{path}.{name}")
    return found


def test_users_roles_are_three() -> None:
    """Who makes backups need not be able to name Secrets, volumes and accounts for our pods, as locations do."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    roles = {
        role["metadata"]["name"].rpartition("-")[2]: role
        for role in of_kind(render(), "ClusterRole")
        if any(label.startswith(prefix) for label in role["metadata"]["labels"])
    }
    kinds = {name: {kind for rule in role["rules"] for kind in rule["resources"]} for name, role in roles.items()}
    assert kinds == {
        "edit": set(OUR_KINDS),
        "operate": {"weaviatebackups", "weaviaterestores"},
        "view": set(OUR_KINDS),
    }
    into = {
        name: {label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)}
        for name, role in roles.items()
    }
    assert into == {"edit": {"admin"}, "operate": {"admin", "edit"}, "view": {"admin", "edit", "view"}}


def test_the_admission_policies_can_be_left_out() -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    unbounded = {"crds": {"boundMetadata": False}}
    assert [len(of_kind(render(), kind)) for kind in kinds] == [3, 3]
    assert [len(of_kind(render(unbounded), kind)) for kind in kinds] == [2, 2]
    without = render({**unbounded, "admissionPolicy": {"enabled": False}})
    assert [of_kind(without, kind) for kind in kinds] == [[], []]
    mine = render({**unbounded, "serviceAccount": {"create": False, "name": "mine"}})
    for policy in of_kind(mine, kinds[0]):
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"] == f"request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:mine'"
