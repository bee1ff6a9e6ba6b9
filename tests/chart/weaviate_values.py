"""Values as users of Weaviate's own chart have them in their files: its documented examples, and one whole file."""

from typing import Any

import yaml

S3_KEYS = """
backups:
  s3:
    enabled: true
    serviceAccountName:
    envconfig:
      BACKUP_S3_BUCKET: weaviate-backups
      BACKUP_S3_PATH: path/inside/bucket
      BACKUP_S3_ENDPOINT: minio.storage:9000
      BACKUP_S3_USE_SSL: false
      AWS_REGION: eu-west-1
    secrets:
      AWS_ACCESS_KEY_ID: access-key-id
      AWS_SECRET_ACCESS_KEY: secret-access-key
    envSecrets: {}
"""
S3_ROLE = """
backups:
  s3:
    enabled: true
    serviceAccountName: weaviate-s3
    envconfig:
      BACKUP_S3_BUCKET: weaviate-backups
      AWS_REGION: eu-west-1
    secrets:
    envSecrets:
"""
S3_SECRETS = """
backups:
  s3:
    enabled: true
    envconfig:
      BACKUP_S3_BUCKET: weaviate-backups
    envSecrets:
      AWS_ACCESS_KEY_ID: secret-containing-the-key-id
      AWS_SECRET_ACCESS_KEY: secret-containing-the-key
"""
GCS_JSON = """
backups:
  gcs:
    enabled: true
    envconfig:
      BACKUP_GCS_BUCKET: weaviate-backups
      BACKUP_GCS_PATH: path/inside/bucket
      GOOGLE_CLOUD_PROJECT: project-id
    secrets:
      GOOGLE_APPLICATION_CREDENTIALS: '{"type": "service_account"}'
"""
GCS_SECRET = """
backups:
  gcs:
    enabled: true
    envconfig:
      BACKUP_GCS_BUCKET: weaviate-backups
    secrets: {}
    envSecrets:
      GOOGLE_APPLICATION_CREDENTIALS: gcs-service-account
"""
AZURE_KEY = """
backups:
  azure:
    enabled: true
    envconfig:
      BACKUP_AZURE_CONTAINER: weaviate-backups
      BACKUP_AZURE_PATH: path/inside/container
      AZURE_BLOCK_SIZE: 41943040
      AZURE_CONCURRENCY: 4
    secrets:
      AZURE_STORAGE_ACCOUNT: account
      AZURE_STORAGE_KEY: a2V5
"""
AZURE_STRING = """
backups:
  azure:
    enabled: true
    envconfig:
      BACKUP_AZURE_CONTAINER: weaviate-backups
    envSecrets:
      AZURE_STORAGE_CONNECTION_STRING: azure-connection
"""
FILESYSTEM = """
extraVolumeMounts:
  - name: backups
    mountPath: /backups
extraVolumes:
  - name: backups
    persistentVolumeClaim:
      claimName: weaviate-backups
backups:
  filesystem:
    enabled: true
    envconfig:
      BACKUP_FILESYSTEM_PATH: /backups/weaviate
"""
DOCUMENTED: dict[str, tuple[str, dict[str, Any]]] = {
    "s3 with keys": (
        S3_KEYS,
        {
            "s3": {
                "bucket": "weaviate-backups",
                "path": "path/inside/bucket",
                "endpoint": "minio.storage:9000",
                "useSSL": False,
                "forcePathStyle": True,
                "region": "eu-west-1",
                "credentialsSecretRef": {"name": "wvb-weaviate-backup-operator-s3"},
            }
        },
    ),
    "s3 with a role": (
        S3_ROLE,
        {"s3": {"bucket": "weaviate-backups", "region": "eu-west-1"}, "serviceAccountName": "weaviate-s3"},
    ),
    "s3 with two Secrets": (
        S3_SECRETS,
        {
            "s3": {
                "bucket": "weaviate-backups",
                "credentialKeyRefs": [
                    {"name": "secret-containing-the-key-id", "key": "AWS_ACCESS_KEY_ID"},
                    {"name": "secret-containing-the-key", "key": "AWS_SECRET_ACCESS_KEY"},
                ],
            }
        },
    ),
    "gcs with a key": (
        GCS_JSON,
        {
            "gcs": {
                "bucket": "weaviate-backups",
                "path": "path/inside/bucket",
                "project": "project-id",
                "credentialsSecretRef": {"name": "wvb-weaviate-backup-operator-gcs"},
            }
        },
    ),
    "gcs with a Secret": (
        GCS_SECRET,
        {"gcs": {"bucket": "weaviate-backups", "credentialsSecretRef": {"name": "gcs-service-account"}}},
    ),
    "azure with a key": (
        AZURE_KEY,
        {
            "azure": {
                "container": "weaviate-backups",
                "path": "path/inside/container",
                "blockSizeMiB": 40,
                "concurrency": 4,
                "credentialsSecretRef": {"name": "wvb-weaviate-backup-operator-azure"},
            }
        },
    ),
    "azure with a Secret": (
        AZURE_STRING,
        {"azure": {"container": "weaviate-backups", "credentialsSecretRef": {"name": "azure-connection"}}},
    ),
    "filesystem on a mounted volume": (
        FILESYSTEM,
        {"filesystem": {"path": "weaviate", "volume": {"persistentVolumeClaim": {"claimName": "weaviate-backups"}}}},
    ),
}
"""Values, and the spec of the location that they come to."""

_THEIRS = """
image: {registry: cr.weaviate.io, tag: 1.38.2, repo: semitechnologies/weaviate, pullPolicy: Never, pullSecrets: [a]}
command: ["/bin/weaviate"]
args: [--host, 0.0.0.0]
initContainers: {sysctlInitContainer: {enabled: true}}
replicas: 3
podManagementPolicy: Parallel
updateStrategy: {type: RollingUpdate}
resources: {requests: {cpu: "16", memory: 64Gi}}
securityContext: {}
containerSecurityContext: {}
clusterDomain: cluster.local.
storage: {size: 32Gi, storageClassName: ""}
service: {name: weaviate, type: LoadBalancer}
grpcService: {enabled: true}
mcp: {enabled: false}
serviceMonitor: {enabled: false}
startupProbe: {enabled: false}
livenessProbe: {initialDelaySeconds: 900}
readinessProbe: {initialDelaySeconds: 3}
terminationGracePeriodSeconds: 600
authentication: {anonymous_access: {enabled: true}}
authorization: {rbac: {enabled: false}}
query_defaults: {limit: 100}
debug: false
namespaces: {enabled: false}
usage: {gcs: {enabled: false}}
collectionExport: {enabled: false}
collector_proxy: {enabled: false}
modules: {text2vec-transformers: {enabled: false}}
custom_config_map: {enabled: false}
runtime_overrides: {enabled: false}
annotations: {a: b}
nodeSelector: {disk: fast}
tolerations: [{key: weaviate, operator: Exists}]
hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]
affinity: {podAntiAffinity: {}}
priorityClassName: weaviate
globalPriorityClassName: weaviate
podDisruptionBudgets: {weaviate: {enabled: false}}
"""
IGNORED = tuple(sorted(yaml.safe_load(_THEIRS)))
"""Top-level values of Weaviate's chart, 15 to 17, that mean nothing to ours."""
WHOLE_FILE = (
    _THEIRS
    + """
serviceAccountName: weaviate
env: {GOGC: 100, AWS_DEFAULT_REGION: eu-central-1, BACKUP_GCS_USE_AUTH: "true"}
envSecrets:
offload: {s3: {enabled: true, envconfig: {OFFLOAD_S3_BUCKET: cold}}}
extraVolumeMounts:
extraVolumes:
backups:
  filesystem: {enabled: false, envconfig: {BACKUP_FILESYSTEM_PATH: /tmp/backups}}
  s3: {enabled: true, envconfig: {BACKUP_S3_BUCKET: vectors, BACKUP_SKIP_ACCESS_CHECK: true}}
  gcs: {enabled: false}
  azure:
"""
)
