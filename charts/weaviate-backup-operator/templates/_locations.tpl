{{- /*
The `backups` block of Weaviate's own chart as locations. Each template takes root and kind, and gives YAML: the `spec` of a
WeaviateBackupLocation and the `data` of the Secret that it needs.
*/ -}}

{{- define "wvb.location.s3" -}}
{{- $credentials := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" }}
{{- $names := list "BACKUP_S3_BUCKET" "BACKUP_S3_PATH" "BACKUP_S3_ENDPOINT" "BACKUP_S3_USE_SSL" "AWS_REGION" "AWS_DEFAULT_REGION" }}
{{- $refused := dict "BACKUP_S3_AUTH_PROXY_ENDPOINT" "asks a broker for credentials, which agents do not: use a service account or a Secret" }}
{{- $names = concat $names $credentials (keys $refused) }}
{{- $told := include "wvb.told" (dict "root" .root "kind" .kind "names" $names "credentials" $credentials) | fromJson }}
{{- include "wvb.refuse" (dict "kind" .kind "told" $told "because" $refused) }}
{{- range $one, $other := dict "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SECRET_ACCESS_KEY" "AWS_ACCESS_KEY_ID" }}
{{- if and (or (index $told.plain $one) (index $told.secret $one)) (not (or (index $told.plain $other) (index $told.secret $other))) }}
{{- fail (printf "backups.s3 has %s without %s: set both, or neither" $one $other) }}
{{- end }}
{{- end }}
{{- $env := $told.plain }}
{{- $bucket := default "weaviate-backups" $env.BACKUP_S3_BUCKET }}
{{- $s3 := dict "bucket" $bucket }}
{{- with trimAll "/" (default "" $env.BACKUP_S3_PATH) }}
{{- $_ := set $s3 "path" . }}
{{- end }}
{{- with default $env.AWS_DEFAULT_REGION $env.AWS_REGION }}
{{- $_ := set $s3 "region" . }}
{{- end }}
{{- with $env.BACKUP_S3_USE_SSL }}
{{- $_ := set $s3 "useSSL" (ne (lower .) "false") }}
{{- end }}
{{- with $env.BACKUP_S3_ENDPOINT }}
{{- $scheme := regexFind "^https?://" (lower .) }}
{{- $host := trimSuffix "/" . | trimPrefix (trunc (len $scheme) .) }}
{{- if $scheme }}
{{- $ssl := eq $scheme "https://" }}
{{- if and (hasKey $s3 "useSSL") (ne $s3.useSSL $ssl) }}
{{- fail (printf "backups.s3: BACKUP_S3_ENDPOINT %s and BACKUP_S3_USE_SSL %s contradict each other: change one" . $env.BACKUP_S3_USE_SSL) }}
{{- end }}
{{- $_ := set $s3 "useSSL" $ssl }}
{{- end }}
{{- $_ := set $s3 "endpoint" $host }}
{{- /* As Weaviate's client does: buckets are host names at these clouds, if TLS allows, and paths elsewhere. */}}
{{- $named := regexMatch "(^|\\.)(amazonaws\\.com(\\.cn)?|storage\\.googleapis\\.com|aliyuncs\\.com)(:[0-9]+)?$" $host }}
{{- $dotted := and (contains "." $bucket) (dig "useSSL" true $s3) }}
{{- $_ := set $s3 "forcePathStyle" (or (not $named) $dotted) }}
{{- end }}
{{- include "wvb.location" (dict "root" .root "kind" .kind "store" $s3 "told" $told "credentials" $credentials) }}
{{- end }}

{{- define "wvb.location.gcs" -}}
{{- $credentials := list "GOOGLE_APPLICATION_CREDENTIALS" }}
{{- $names := list "BACKUP_GCS_BUCKET" "BACKUP_GCS_PATH" "BACKUP_GCS_USE_AUTH" "STORAGE_EMULATOR_HOST" }}
{{- $names = concat $names (list "GOOGLE_CLOUD_PROJECT" "GCLOUD_PROJECT" "GCP_PROJECT") }}
{{- $refused := dict "BACKUP_GCS_AUTH_PROXY_ENDPOINT" "asks a broker for credentials, which agents do not: use a service account or a Secret" }}
{{- $names = concat $names $credentials (keys $refused) }}
{{- $told := include "wvb.told" (dict "root" .root "kind" .kind "names" $names "credentials" $credentials) | fromJson }}
{{- if not (contains "{" (default "" $told.plain.GOOGLE_APPLICATION_CREDENTIALS)) }}
{{- $_ := set $refused "GOOGLE_APPLICATION_CREDENTIALS" "is no JSON but a file in Weaviate's pods: name a Secret with that key in backups.gcs.envSecrets.GOOGLE_APPLICATION_CREDENTIALS, or put the JSON into backups.gcs.secrets" }}
{{- end }}
{{- include "wvb.refuse" (dict "kind" .kind "told" $told "because" $refused) }}
{{- $env := $told.plain }}
{{- $gcs := dict "bucket" (default "weaviate-backups" $env.BACKUP_GCS_BUCKET) }}
{{- with trimAll "/" (default "" $env.BACKUP_GCS_PATH) }}
{{- $_ := set $gcs "path" . }}
{{- end }}
{{- with coalesce $env.GOOGLE_CLOUD_PROJECT $env.GCLOUD_PROJECT $env.GCP_PROJECT }}
{{- $_ := set $gcs "project" . }}
{{- end }}
{{- with $env.STORAGE_EMULATOR_HOST }}
{{- $_ := set $gcs "endpoint" (contains "://" . | ternary . (printf "http://%s" .) | trimSuffix "/") }}
{{- $_ := set $gcs "useAuth" false }}
{{- end }}
{{- with $env.BACKUP_GCS_USE_AUTH }}
{{- $_ := set $gcs "useAuth" (ne (lower .) "false") }}
{{- end }}
{{- include "wvb.location" (dict "root" .root "kind" .kind "store" $gcs "told" $told "credentials" $credentials) }}
{{- end }}

{{- define "wvb.location.azure" -}}
{{- $credentials := list "AZURE_STORAGE_CONNECTION_STRING" "AZURE_STORAGE_ACCOUNT" "AZURE_STORAGE_KEY" }}
{{- $names := list "BACKUP_AZURE_CONTAINER" "BACKUP_AZURE_PATH" "AZURE_BLOCK_SIZE" "AZURE_CONCURRENCY" | concat $credentials }}
{{- $told := include "wvb.told" (dict "root" .root "kind" .kind "names" $names "credentials" $credentials) | fromJson }}
{{- $env := $told.plain }}
{{- $azure := dict "container" (default "weaviate-backups" $env.BACKUP_AZURE_CONTAINER) }}
{{- with trimAll "/" (default "" $env.BACKUP_AZURE_PATH) }}
{{- $_ := set $azure "path" . }}
{{- end }}
{{- with $env.AZURE_BLOCK_SIZE }}
{{- $_ := set $azure "blockSizeMiB" (div (add (int64 .) 1048575) 1048576 | max 1) }}
{{- end }}
{{- with $env.AZURE_CONCURRENCY }}
{{- $_ := set $azure "concurrency" (int64 .) }}
{{- end }}
{{- if or $env.AZURE_STORAGE_CONNECTION_STRING $told.secret.AZURE_STORAGE_CONNECTION_STRING }}
{{- /* It wins, and holds all that is needed. */}}
{{- $credentials = list "AZURE_STORAGE_CONNECTION_STRING" }}
{{- else if not (or $env.AZURE_STORAGE_ACCOUNT $told.secret.AZURE_STORAGE_ACCOUNT) }}
{{- fail "backups.azure needs AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, in secrets or envSecrets; AZURE_STORAGE_ACCOUNT alone, in envconfig, is for the identity of a service account" }}
{{- else if and $env.AZURE_STORAGE_ACCOUNT (empty $env.AZURE_STORAGE_KEY) }}
{{- /* The name of an account is no secret. Without a key it is used with the identity of the pods. */}}
{{- $_ := set $azure "account" $env.AZURE_STORAGE_ACCOUNT }}
{{- $credentials = list "AZURE_STORAGE_KEY" }}
{{- end }}
{{- include "wvb.location" (dict "root" .root "kind" .kind "store" $azure "told" $told "credentials" $credentials) }}
{{- end }}

{{- /* The spec around a store of a cloud, with credentials and identity. Takes root, kind, store, told and credentials. */ -}}
{{- define "wvb.location" -}}
{{- $own := printf "%s-%s" (include "wvb.fullname" .root) .kind }}
{{- $found := include "wvb.credentials" (dict "kind" .kind "told" .told "names" .credentials "own" $own) | fromJson }}
{{- $spec := dict .kind (merge $found.store .store) }}
{{- with include "wvb.weaviateAccount" .root }}
{{- $_ := set $spec "serviceAccountName" . }}
{{- end }}
{{- dict "spec" $spec "data" $found.data | toYaml }}
{{- end }}

{{- /* That path is one within Weaviate's pods: the volume under it is told by the values of its mounts, or by `volume`. */ -}}
{{- define "wvb.location.filesystem" -}}
{{- $store := .root.Values.backups.filesystem }}
{{- $names := list "BACKUP_FILESYSTEM_PATH" }}
{{- $told := include "wvb.told" (dict "root" .root "kind" .kind "names" $names "credentials" list) | fromJson }}
{{- $path := default "/tmp/backups" $told.plain.BACKUP_FILESYSTEM_PATH | clean }}
{{- $filesystem := dict }}
{{- with $store.volume }}
{{- $_ := set $filesystem "volume" . }}
{{- else }}
{{- $mount := dict "mountPath" "" }}
{{- range .root.Values.extraVolumeMounts }}
{{- if and (hasPrefix (printf "%s/" (clean .mountPath)) (printf "%s/" $path)) (gt (len .mountPath) (len $mount.mountPath)) }}
{{- $mount = . }}
{{- end }}
{{- end }}
{{- range .root.Values.extraVolumes }}
{{- if eq .name (default "" $mount.name) }}
{{- $_ := set $filesystem "volume" (omit . "name") }}
{{- end }}
{{- end }}
{{- $known := list "persistentVolumeClaim" "nfs" "csi" "hostPath" }}
{{- $shared := not (hasKey $mount "subPathExpr") }}
{{- range keys (default dict $filesystem.volume) }}
{{- $shared = and $shared (has . $known) }}
{{- end }}
{{- if not (and $filesystem.volume $shared) }}
{{- fail (printf "backups.filesystem: BACKUP_FILESYSTEM_PATH %s is a directory of each Weaviate pod, out of reach for agents. Say which volume is meant, one that every agent can mount, such as backups.filesystem.volume: {persistentVolumeClaim: {claimName: backups}}; or mount it there with extraVolumes and extraVolumeMounts; or switch this store off with backups.filesystem.enabled: false" $path) }}
{{- end }}
{{- $within := printf "%s/%s" (default "" $mount.subPath) (trimPrefix (clean $mount.mountPath) $path) | clean | trimAll "/" }}
{{- if $within }}
{{- $_ := set $filesystem "path" $within }}
{{- end }}
{{- end }}
{{- with $filesystem.volume.csi }}
{{- if not (has .driver $.root.Values.operator.csiDrivers) }}
{{- fail (printf "backups.filesystem: the operator gives volumes of the CSI driver %s to agents only with operator.csiDrivers: [%s]. Set that, or name another volume, such as backups.filesystem.volume: {persistentVolumeClaim: {claimName: backups}}" .driver .driver) }}
{{- end }}
{{- end }}
{{- with $filesystem.volume.hostPath }}
{{- if not $.root.Values.operator.allowHostPathVolumes }}
{{- fail (printf "backups.filesystem: hostPath %s is a directory of the nodes, which the operator gives to agents only with operator.allowHostPathVolumes: true. Set that, or name another volume, such as backups.filesystem.volume: {persistentVolumeClaim: {claimName: backups}}" .path) }}
{{- end }}
{{- /* What a Pod checks for before it mounts, which a location knows of directories only. */}}
{{- $type := has .type (list "Directory" "DirectoryOrCreate") | ternary (dict "type" .type) dict }}
{{- $_ := set $filesystem "volume" (dict "hostPath" (merge (dict "path" .path) $type)) }}
{{- end }}
{{- dict "spec" (dict "filesystem" $filesystem) "data" dict | toYaml }}
{{- end }}

{{- define "wvb.knowsLocations" -}}
{{- .Capabilities.APIVersions.Has "backup.weaviate.io/v1alpha1/WeaviateBackupLocation" }}
{{- end }}

{{- /* Namespaces of the Weaviate clusters whose values these are, one a line. */ -}}
{{- define "wvb.locationNamespaces" -}}
{{- coalesce .Values.locationNamespaces .Values.watchNamespaces (list .Release.Namespace) | uniq | join "\n" }}
{{- end }}

{{- /* The kinds of store that are enabled, one a line. */ -}}
{{- define "wvb.stores" -}}
{{- $enabled := list }}
{{- range $kind := list "s3" "gcs" "azure" "filesystem" }}
{{- if (index $.Values.backups $kind | default dict).enabled }}
{{- $enabled = append $enabled $kind }}
{{- end }}
{{- end }}
{{- join "\n" $enabled }}
{{- end }}
