"""WeaviateBackupLocation: where backups lie, and how they are reached. Exactly one kind is set."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1, max_length=253)]


class ApiModel(BaseModel):
    """camelCase in JSON, snake_case here. Unknown fields are the API server's affair."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class SecretReference(ApiModel):
    name: Name


class SecretKeyReference(ApiModel):
    name: Name
    key: Annotated[str, Field(min_length=1, max_length=253)]


class ServerSideEncryption(ApiModel):
    """What S3 is asked to do with every object: AES256, or aws:kms with a key."""

    algorithm: Annotated[str, Field(max_length=32)] = "AES256"
    kms_key_id: Annotated[str | None, Field(max_length=2048)] = None


class S3Location(ApiModel):
    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    path: Annotated[str, Field(max_length=512)] = ""
    endpoint: Annotated[str | None, Field(max_length=512)] = None
    region: Annotated[str | None, Field(max_length=64)] = None
    use_ssl: Annotated[bool, Field(alias="useSSL")] = True
    force_path_style: bool = False
    credentials_secret_ref: SecretReference | None = None
    ca_secret_ref: SecretKeyReference | None = None
    server_side_encryption: ServerSideEncryption | None = None
    storage_class: Annotated[str | None, Field(max_length=64)] = None


class GcsLocation(ApiModel):
    bucket: Annotated[str, Field(min_length=3, max_length=222)]
    path: Annotated[str, Field(max_length=512)] = ""
    project: Annotated[str | None, Field(max_length=128)] = None
    endpoint: Annotated[str | None, Field(max_length=512)] = None
    use_auth: bool = True
    credentials_secret_ref: SecretReference | None = None


class AzureLocation(ApiModel):
    container: Annotated[str, Field(min_length=3, max_length=63)]
    path: Annotated[str, Field(max_length=512)] = ""
    endpoint: Annotated[str | None, Field(max_length=512)] = None
    credentials_secret_ref: SecretReference | None = None
    block_size_mib: Annotated[int, Field(alias="blockSizeMiB", ge=1, le=4000)] = 40
    concurrency: Annotated[int, Field(ge=1, le=64)] = 1


class FilesystemLocation(ApiModel):
    """`volume` is any Kubernetes volume source (without a name) that every agent can reach."""

    path: Annotated[str, Field(max_length=512)] = ""
    volume: dict[str, Any]


class LocationSpec(ApiModel):
    s3: S3Location | None = None
    gcs: GcsLocation | None = None
    azure: AzureLocation | None = None
    filesystem: FilesystemLocation | None = None
    service_account_name: Annotated[str | None, Field(max_length=253)] = None
    read_only: bool = False
    suspend: bool = False
