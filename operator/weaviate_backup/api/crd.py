"""The three custom resource definitions, made from the models. Values only: `crds/generate` writes the files."""

from typing import Any

from weaviate_backup.api.backup import BackupSpec, BackupStatus
from weaviate_backup.api.location import (
    AzureLocation,
    FilesystemLocation,
    GcsLocation,
    LocationSpec,
    S3Location,
)
from weaviate_backup.api.location_status import LocationStatus
from weaviate_backup.api.model import ApiModel
from weaviate_backup.api.names import (
    BACKUP_KIND,
    BACKUP_PLURAL,
    GROUP,
    LOCATION_KIND,
    LOCATION_PLURAL,
    MAX_OBJECT_NAME,
    RESTORE_KIND,
    RESTORE_PLURAL,
    VERSION,
)
from weaviate_backup.api.restore import RestoreSpec, RestoreStatus
from weaviate_backup.api.rules import JsonSchema, exactly_one, exclusive_lists, frozen_fields, rule, unchanged
from weaviate_backup.api.structural import spec_schema, status_schema

Crd = dict[str, Any]
Column = dict[str, Any]
Rules = list[dict[str, str]]

_LOCATION_IDENTITY: dict[str, tuple[type[ApiModel], tuple[str, ...]]] = {
    "s3": (S3Location, ("bucket", "path", "endpoint", "use_ssl")),
    "gcs": (GcsLocation, ("bucket", "path", "endpoint", "use_auth")),
    "azure": (AzureLocation, ("container", "path", "endpoint", "account")),
    "filesystem": (FilesystemLocation, ("path",)),
}
"""Where backups lie, and whom credentials are sent to: who may change a location must not collect another's."""


def definitions() -> dict[str, Crd]:
    """Every CRD by its name, which is also its file's."""
    made = (_backup(), _restore(), _location())
    return {crd["metadata"]["name"]: crd for crd in made}


def _backup() -> Crd:
    cure = "create a new WeaviateBackup"
    return _crd(
        kind=BACKUP_KIND,
        plural=BACKUP_PLURAL,
        short_name="wvb",
        description="One backup of a Weaviate cluster into a WeaviateBackupLocation.",
        spec=BackupSpec,
        spec_rules=[
            exclusive_lists("include", "exclude"),
            *frozen_fields(BackupSpec, mutable=["cancel"], cure=cure),
            _cancel_rule(cure),
        ],
        status=BackupStatus,
        root_rules=[
            rule(
                "has(self.spec.backupID) || self.metadata.name.matches('^[a-z0-9-]+$')",
                "metadata.name serves as backupID and may not hold dots; choose another name or set spec.backupID",
                field="spec",
            )
        ],
        columns=[
            _column("Phase", ".status.phase"),
            _column("Target", ".spec.target.statefulSet"),
            _column("Location", ".spec.locationRef.name"),
            _column("Progress", ".status.progress.percent", kind="integer", description="Percent of the bytes"),
            _column("Size", ".status.size", description="Bytes stored, after compression"),
            _column("Duration", ".status.duration"),
            *_COMMON_COLUMNS,
            _column("Backup-ID", ".status.backupID", wide=True),
        ],
        selectable=[".spec.target.statefulSet", ".spec.locationRef.name", ".spec.backupID"],
    )


def _restore() -> Crd:
    cure = "create a new WeaviateRestore"
    return _crd(
        kind=RESTORE_KIND,
        plural=RESTORE_PLURAL,
        short_name="wvr",
        description="One restore of a backup into a Weaviate cluster.",
        spec=RestoreSpec,
        spec_rules=[
            rule(
                "has(self.source.backupRef) != (has(self.source.locationRef) || has(self.source.backupID))",
                "set either source.backupRef, or source.locationRef with source.backupID",
                field="source",
            ),
            rule(
                "has(self.source.locationRef) == has(self.source.backupID)",
                "source.locationRef and source.backupID belong together; set both, or source.backupRef alone",
                field="source",
            ),
            exclusive_lists("include", "exclude"),
            *frozen_fields(RestoreSpec, mutable=["cancel"], cure=cure),
            _cancel_rule(cure),
        ],
        status=RestoreStatus,
        root_rules=[],
        columns=[
            _column("Phase", ".status.phase"),
            _column("Target", ".spec.target.statefulSet"),
            _column("Backup-ID", ".status.backupID"),
            _column("Progress", ".status.progress.percent", kind="integer", description="Percent of the bytes"),
            _column("Size", ".status.size", description="Bytes restored"),
            _column("Duration", ".status.duration"),
            *_COMMON_COLUMNS,
            _column("Dry-Run", ".spec.dryRun", kind="boolean", wide=True),
        ],
        selectable=[".spec.target.statefulSet", ".spec.source.backupRef.name", ".spec.source.locationRef.name"],
    )


def _location() -> Crd:
    return _crd(
        kind=LOCATION_KIND,
        plural=LOCATION_PLURAL,
        short_name="wvbl",
        description="A place where backups are stored: a bucket, a container or a directory.",
        spec=LocationSpec,
        spec_rules=[
            exactly_one(_LOCATION_IDENTITY, "the kind of store"),
            *(_identity_rule(kind, model, names) for kind, (model, names) in _LOCATION_IDENTITY.items()),
        ],
        status=LocationStatus,
        root_rules=[],
        columns=[
            _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            _column("Kind", ".status.kind"),
            _column("Address", ".status.address"),
            _column("Read-Only", ".spec.readOnly", kind="boolean", wide=True),
            _column("Probed", ".status.lastProbeTime", kind="date"),
            _column("Age", ".metadata.creationTimestamp", kind="date"),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
        ],
        selectable=[".spec.readOnly"],
    )


def _cancel_rule(cure: str) -> dict[str, str]:
    return rule("!oldSelf.cancel || self.cancel", f"spec.cancel cannot be taken back; {cure}", field="cancel")


def _identity_rule(kind: str, model: type[ApiModel], names: tuple[str, ...]) -> dict[str, str]:
    same = " && ".join(f"({unchanged(model, name, within=f'{kind}.')})" for name in names)
    fields = " and ".join(model.model_fields[name].alias or name for name in names)
    return rule(
        f"has(self.{kind}) == has(oldSelf.{kind}) && (!has(self.{kind}) || ({same}))",
        f"spec.{kind} can neither come nor go, and its {fields} cannot change, since backups lie there and credentials "
        "go there; create a new WeaviateBackupLocation",
        field=kind,
    )


def _column(name: str, path: str, *, kind: str = "string", wide: bool = False, description: str = "") -> Column:
    made: Column = {"name": name, "type": kind, "jsonPath": path}
    if description:
        made["description"] = description
    return {**made, "priority": 1} if wide else made


_COMMON_COLUMNS = (
    _column("Age", ".metadata.creationTimestamp", kind="date"),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    _column("Started", ".status.startTime", kind="date", wide=True),
    _column("Finished", ".status.completionTime", kind="date", wide=True),
)


def _crd(
    *,
    kind: str,
    plural: str,
    short_name: str,
    description: str,
    spec: type[ApiModel],
    spec_rules: Rules,
    status: type[ApiModel],
    root_rules: Rules,
    columns: list[Column],
    selectable: list[str],
) -> Crd:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["weaviate", "backup"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": columns,
                    "selectableFields": [{"jsonPath": path} for path in selectable],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": _root(description, spec, spec_rules, status, root_rules)},
                }
            ],
        },
    }


def _root(
    description: str, spec: type[ApiModel], spec_rules: Rules, status: type[ApiModel], root_rules: Rules
) -> JsonSchema:
    """The whole object. `spec` is required, so that rules on it run on every write."""
    status_part = status_schema(status)
    conditions = status_part["properties"]["conditions"]
    conditions["x-kubernetes-list-type"] = "map"
    conditions["x-kubernetes-list-map-keys"] = ["type"]
    name_rule = rule(
        f"size(self.metadata.name) <= {MAX_OBJECT_NAME}",
        f"metadata.name may have at most {MAX_OBJECT_NAME} characters, since names of pods are made from it; "
        "choose a shorter one",
    )
    return {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "x-kubernetes-validations": [name_rule, *root_rules],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec_schema(spec), "x-kubernetes-validations": spec_rules},
            "status": status_part,
        },
    }
